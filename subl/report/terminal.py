"""The final table and its sentences at a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from subl.report.cells import table_cells

if TYPE_CHECKING:
    from rich.console import Console

    from subl.report.summary import Summary


def print_summary(summary: Summary, console: Console) -> None:
    """Print a run's table, what it shows, and what limits it; fits 80 columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    columns, rows = table_cells(summary)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        first = number == 0
        table.add_column(Text(column), overflow="fold", style="bold" if first else "", no_wrap=not first)
    for row in rows:
        table.add_row(*map(Text, row))
    if summary.title:
        console.print(Text(summary.title, style="bold"))
    console.print(table)
    for sentence in summary.sentences:
        console.print(Text(f"· {sentence}"))
    for warning in summary.warnings:
        console.print(Text(f"! {warning}"), style="yellow")
