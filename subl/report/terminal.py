"""The final table and its sentences at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from subl.report.cells import table_cells
from subl.report.formatting import names

SENTENCES = 8
"""With more contrasts than this, the terminal only groups them by verdict."""

if TYPE_CHECKING:
    from rich.console import Console

    from subl.report.summary import Summary


def print_summary(summary: Summary, console: Console) -> None:
    """Print a run's table, what it shows, and what limits it; fits 80 columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    columns, rows = table_cells(summary)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        first = number == 0
        table.add_column(Text(column), overflow="fold", style="bold" if first else "", no_wrap=not first)
    for row in rows:
        table.add_row(*map(Text, row))
    if summary.title:
        console.print(Text(summary.title, style="bold"))
    console.print(table)
    for sentence in _told(summary):
        console.print(Text(f"· {sentence}"))
    if summary.expectation is not None:
        console.print(Text(f"· {summary.expectation.text}", style="bold"))
    for warning in summary.warnings:
        console.print(Text(f"! {warning}"), style="yellow")


def _told(summary: Summary) -> list[str]:
    """Return the summary's sentences; of a large grid, which contrasts got which verdict."""
    judged = summary.judged
    if len(judged) <= SENTENCES:
        return list(summary.sentences)
    kinds: dict[str, list[str]] = {}
    for contrast, verdict in judged:
        kinds.setdefault(verdict.label, []).append(contrast.label)
    grouped = [f"{label}: {names(labels, 12)}" for label, labels in kinds.items()]
    return [*grouped, f"why, for each of the {len(judged)} contrasts, stands in the report", *summary.sentences[-1:]]
