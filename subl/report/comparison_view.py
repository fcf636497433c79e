"""A comparison as a table, as JSON values, as Markdown and as a figure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from subl.artifacts import Measure
from subl.report.blocks import Block, Grid, Image, Items, Paragraph, Section
from subl.report.cells import lift_column
from subl.report.comparison import Comparison, Line
from subl.report.formatting import NOTHING, number, probability, size

FIRST = "difference from\nthe first such line"


def cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return column titles and rows; columns that nothing fills are left out."""
    measure = comparison.metric.partition(".")[2]
    lifts, over = lift_column(
        "lift ", [size(line.lift) for line in comparison.lines], [line.against for line in comparison.lines]
    )
    columns = {
        "" if comparison.by == "arm" else comparison.by: [line.group or NOTHING for line in comparison.lines],
        "arm": [line.arm for line in comparison.lines],
        "runs": [str(len(line.members)) for line in comparison.lines],
        f"{measure} before → after": [_course(line) for line in comparison.lines],
        "valid": [number(line.valid.value) if line.valid else NOTHING for line in comparison.lines],
        lifts: over,
        "p (Holm)": [
            probability(line.adjusted).removeprefix("p ").removeprefix("= ") or NOTHING for line in comparison.lines
        ],
        FIRST: [size(line.difference) for line in comparison.lines],
    }
    shown = {title: column for title, column in columns.items() if any(cell != NOTHING for cell in column)}
    return list(shown), [list(row) for row in zip(*shown.values(), strict=True)]


def to_json(comparison: Comparison, figure: str | None) -> dict[str, Any]:
    """Return the comparison as JSON values; numbers that do not exist are null."""
    return {
        "metric": comparison.metric,
        "by": comparison.by,
        "lines": [
            {
                comparison.by: line.group if comparison.by != "arm" else line.arm,
                "arm": line.arm,
                "runs": [
                    {
                        "run": t.recorded.name,
                        "variant": t.run.label,
                        "before": _finite(t.before),
                        "after": _finite(t.after),
                        "lift": _finite(t.lift),
                    }
                    for t in line.members
                ],
                "before": _measure(line.before),
                "after": _measure(line.after),
                "valid": _measure(line.valid),
                "against": line.against,
                "lift": _measure(line.lift),
                "p": _finite(line.evidence.t),
                "p_holm": _finite(line.adjusted),
                "p_sign_flips": _finite(line.evidence.flip),
                "g_z": _finite(line.evidence.effect),
                "detectable": _finite(line.evidence.detectable),
                "difference": _measure(line.difference),
                "difference_is_paired": line.paired,
            }
            for line in comparison.lines
        ],
        "warnings": list(comparison.warnings),
        "figure": figure,
    }


def section(comparison: Comparison, figure: str | None) -> Section:
    """Return the comparison as a part of a document."""
    blocks: list[Block] = [Grid(*cells(comparison)), Paragraph(note(comparison))]
    if figure is not None:
        blocks.append(Image(figure, f"{comparison.metric}: lift over the control; every run is a dot"))
    if comparison.warnings:
        blocks.append(Items(comparison.warnings))
    return Section(f"{comparison.metric} by {comparison.by}", blocks)


def note(comparison: Comparison) -> str:
    """Say what the intervals are over."""
    text = "intervals are 95 % t intervals over trained runs; of the lift, over pairs with the control of the same run"
    unpaired = any(line.difference is not None and not line.paired for line in comparison.lines)
    return text + ("; differences without common seeds are Welch's" if unpaired else "")


def draw_comparison(comparison: Comparison, path: Path) -> bool:
    """Draw every line's lifts (values, where no run has a control) as dots, with mean and interval, as PNG.

    Returns:
        False, and no file, where there is nothing to draw.
    """
    from matplotlib.figure import Figure

    lifts = any(math.isfinite(line.lift.value) for line in comparison.lines)
    shown = [line for line in comparison.lines if not lifts or math.isfinite(line.lift.value)]
    if not shown:
        return False
    figure = Figure(figsize=(6.4, 0.9 + 0.5 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for position, line in enumerate(shown):
        values = [t.lift if lifts else t.after for t in line.members]
        mean = line.lift if lifts else line.after
        axes.scatter(values, [position] * len(values), s=20, color="#9aa0a6", zorder=2)
        axes.plot([mean.value], [position + 0.22], marker="|", markersize=9, color="#1a6fb5", zorder=3)
        if mean.low is not None and mean.high is not None:
            axes.plot([mean.low, mean.high], [position + 0.22] * 2, color="#1a6fb5", linewidth=1.6, zorder=3)
    if lifts:
        axes.axvline(0, color="#bbbbbb", linewidth=1, zorder=1)
    axes.set_yticks(range(len(shown)), [_named(line) for line in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel(f"{comparison.metric}{': lift over the control' if lifts else ''}")
    axes.grid(axis="x", color="#ececec")
    axes.spines[["top", "right", "left"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    return True


def _course(line: Line) -> str:
    before = f"{number(line.before.value)} → " if math.isfinite(line.before.value) else ""
    return f"{before}{size(line.after, signed=False)}"


def _named(line: Line) -> str:
    return f"{line.arm}\n{line.group}".rstrip()


def _measure(measure: Measure | None) -> dict[str, Any] | None:
    if measure is None or not math.isfinite(measure.value):
        return None
    return measure._asdict()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
