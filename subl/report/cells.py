"""The final table as text cells, the same in the terminal and in documents."""

from __future__ import annotations

from collections.abc import Sequence

from subl.report.arms import Arm
from subl.report.formatting import NOTHING, change, estimate, number
from subl.report.summary import Summary


def table_cells(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Return column titles and rows; intervals stand on a second line. Columns without any value are left out."""
    measure = summary.metric.partition(".")[2]
    columns = [
        ("arm", [f"{arm.name}\n{arm.settings}".rstrip() for arm in summary.arms]),
        (f"{measure}\nbefore → after", [change(arm.base, arm.student) for arm in summary.arms]),
        ("valid", [number(arm.valid.value) if arm.valid else NOTHING for arm in summary.arms]),
        ("logit margin\nbefore → after", [change(*arm.margin).splitlines()[0] for arm in summary.arms]),
        lift_column(f"{measure} lift\n", [_lift(arm) for arm in summary.arms], [arm.against for arm in summary.arms]),
        ("runs", [_runs(arm) for arm in summary.arms]),
    ]
    shown = [column for column in columns if any(cell != NOTHING for cell in column[1])]
    return [title for title, _ in shown], [list(row) for row in zip(*(cells for _, cells in shown), strict=True)]


def lift_column(title: str, lifts: Sequence[str], against: Sequence[str | None]) -> tuple[str, list[str]]:
    """Return title and cells that say what lifts are over: once in the title, or in every cell where they differ."""
    over = {arm for lift, arm in zip(lifts, against, strict=True) if arm and lift != NOTHING}
    if len(over) < 2:
        return f"{title}vs {over.pop()}" if over else title.strip(), list(lifts)
    cells = [lift if lift == NOTHING else f"{lift}\nvs {arm}" for lift, arm in zip(lifts, against, strict=True)]
    return title.strip(), cells


def _lift(arm: Arm) -> str:
    return NOTHING if arm.lift is None else estimate(arm.lift.mean, signed=True)


def _runs(arm: Arm) -> str:
    return str(arm.measured) if arm.measured == len(arm.runs) else f"{arm.measured} of {len(arm.runs)}"
