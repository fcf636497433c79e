"""The main figure: the primary metric before and after, every run as a dot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from subl.report.arms import Arm
    from subl.report.summary import Summary

BEFORE, AFTER = "#9aa0a6", "#1a6fb5"
_SIDE = 0.18


def draw_shift(summary: Summary, path: Path) -> bool:
    """Draw base → student per run and arm, with means and their intervals, as PNG.

    Returns:
        False, and no file, where no run has a value.
    """
    arms = [arm for arm in summary.arms if arm.measured]
    if not arms:
        return False
    figure = Figure(figsize=(min(max(4.5, 1.2 + 1.3 * len(arms)), 16), 3.6), layout="constrained")
    axes = figure.subplots()
    for position, arm in enumerate(arms):
        _draw_arm(axes, position, arm)
    axes.set_xticks(range(len(arms)), [arm.label.replace(" · ", "\n") for arm in arms])
    axes.set_xlim(-0.6, len(arms) - 0.4)
    axes.set_ylabel(summary.metric)
    if not _negative(arms):  # a share that starts at 0.09 would look like a larger effect than it is
        axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="#e6e6e6")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    handles = [axes.scatter([], [], color=color) for color in (BEFORE, AFTER)]
    axes.legend(handles, ["base model", "student"], frameon=False, loc="best")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Equal findings should give equal bytes: no version of matplotlib in the file.
    figure.savefig(path, dpi=150, metadata={"Software": None})
    return True


def _negative(arms: Sequence[Arm]) -> bool:
    return any(value < 0 for arm in arms for value in (*arm.before.values(), *arm.after.values()))


def _draw_arm(axes: Axes, position: int, arm: Arm) -> None:
    left, right = position - _SIDE, position + _SIDE
    for pair, after in arm.after.items():
        before = arm.before.get(pair, math.nan)
        axes.plot([left, right], [before, after], color="#cccccc", linewidth=1, zorder=1)
        axes.scatter([left], [before], s=22, color=BEFORE, alpha=0.8, zorder=2)
        axes.scatter([right], [after], s=22, color=AFTER, alpha=0.8, zorder=2)
    mean = arm.student
    if mean is not None and mean.low is not None and mean.high is not None:
        beside = right + 0.12
        axes.plot([beside, beside], [mean.low, mean.high], color=AFTER, linewidth=1.5, zorder=3)
        axes.plot([beside], [mean.value], marker="_", markersize=9, color=AFTER, zorder=3)
