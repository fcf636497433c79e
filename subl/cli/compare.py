"""`subl compare`: several runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from subl.cli.lookup import find_run
from subl.cli.options import AsJson, StoreFolder
from subl.cli.output import print_json, print_table

if TYPE_CHECKING:
    from subl.report.comparison import By

EPILOG = "Example: subl compare 20260101-120000 20260102-090000 --by trait"


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN…", help="Runs' names, beginnings of them, or folders.", show_default=False),
    ],
    by: Annotated[str, typer.Option(help="What makes a line besides the arm: run, arm, trait or distiller.")] = "run",
    metric: Annotated[
        str | None, typer.Option(help="Measure to compare, e.g. preference.margin; the runs' own if not given.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="PNG file for the figure; in the project's folder if not given.")
    ] = None,
    store: StoreFolder = None,
    as_json: AsJson = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Compare runs: a table with intervals over trained students, and a figure.

    Lifts are paired with the control of the same run, and a student that several runs share counts once. Runs whose
    students were not asked the same questions in the same rendering are refused.
    """
    from subl.report.comparison import compare_runs
    from subl.report.comparison_view import cells, draw_comparison, note, section, to_json
    from subl.report.recorded import read_recorded

    folders = list(dict.fromkeys(find_run(name, store) for name in runs))
    comparison = compare_runs([read_recorded(folder) for folder in folders], by=_by(by), metric=metric)
    path = figure or _figure(folders, comparison.metric, by, store)
    drawn = str(path) if draw_comparison(comparison, path) else None
    if as_json:
        print_json(to_json(comparison, drawn))
        return
    if as_markdown:
        from subl.report.markdown import render

        typer.echo(render([section(comparison, drawn)]).rstrip())
        return
    columns, rows = cells(comparison)
    print_table(columns, rows)
    typer.echo(note(comparison))
    for warning in comparison.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if drawn is not None:
        typer.echo(f"figure: {drawn}")


def _by(name: str) -> By:
    from subl.errors import SublError, suggest
    from subl.report.comparison import BY

    for known in BY:
        if known == name:
            return known
    raise SublError(f"--by {name}: unknown{suggest(name, BY)}")


def _figure(folders: list[Path], metric: str, by: str, store: Path | None) -> Path:
    """Return a place that is the same for the same comparison."""
    import hashlib

    from subl.run.runner import project_home

    asked = "\n".join([*(folder.name for folder in folders), metric, by])
    name = f"{metric}-by-{by}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}.png"
    return project_home(store) / "comparisons" / name
