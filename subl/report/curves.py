"""Learning curves: what the stages that train recorded, arm by arm and seed by seed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TypeAlias

from matplotlib.figure import Figure

from subl.report.summary import Summary

METRICS = "metrics.jsonl"
TRAINING = ("distill", "induce")
DULL = ("learning_rate", "epoch")
PANELS = 6
COLORS = ("#1a6fb5", "#8b9299", "#c2571a", "#0b6e4f", "#7a4fa3", "#b58a00", "#b3261e", "#3aa0a0")

Curves: TypeAlias = Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]
"""Title, e.g. "distill/loss" → variant's label → (step, value)."""


def read_curves(folder: Path) -> Curves:
    """Return the curves that a run folder holds; none for runs of versions that recorded none."""
    path = folder / METRICS
    found: dict[str, dict[str, dict[int, float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
            title = f"{record['stage']}/{record['name']}"
            if record["kind"] in TRAINING and record["step"] is not None and record["name"] not in DULL:
                points = found.setdefault(title, {}).setdefault(record["variant"], {})
                points[record["step"]] = math.nan if record["value"] is None else float(record["value"])
        except (ValueError, KeyError, TypeError):
            continue  # a kill can cut the last line
    curves = {
        title: {label: sorted(points.items()) for label, points in lines.items() if len(points) > 1}
        for title, lines in found.items()
    }
    return dict(sorted(((t, lines) for t, lines in curves.items() if lines), key=lambda item: _rank(item[0])))


def draw_curves(curves: Curves, summary: Summary, path: Path) -> bool:
    """Draw the first curves as small panels, PNG, one line per run and one colour per arm.

    Returns:
        False, and no file, where there is no curve.
    """
    shown = list(curves.items())[:PANELS]
    arms = {run.label: arm.label for arm in summary.arms for run in arm.runs}
    if not shown or not any(label in arms for _, lines in shown for label in lines):
        return False
    colors = dict(zip([arm.label for arm in summary.arms], cycle(COLORS), strict=False))
    columns = min(len(shown), 3)
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(0.4 + 3.1 * columns, 0.5 + 2.3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, lines) in zip(panels, shown, strict=False):
        for label, points in lines.items():
            if label in arms:
                steps, values = zip(*points, strict=True)
                axes.plot(steps, values, color=colors[arms[label]], linewidth=1, alpha=0.85)
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel("update", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(color="#ececec")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    handles = [figure.axes[0].plot([], [], color=color)[0] for color in colors.values()]
    figure.legend(handles, list(colors), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    return True


def _rank(title: str) -> tuple[int, bool, str]:
    stage, _, name = title.partition("/")
    return TRAINING.index(stage) if stage in TRAINING else len(TRAINING), name != "loss", name
