"""`subl runs`: what was run in this project."""

from __future__ import annotations

from typing import Annotated

import typer

from subl.cli.lookup import find_run, named_run, read_run, run_folders
from subl.cli.options import AsJson, StoreFolder
from subl.cli.output import print_json, print_table

runs = typer.Typer(help="List, show, remove and mirror runs.", no_args_is_help=True)

RUN = "A run's name, the beginning of it, or its folder"
Names = Annotated[list[str], typer.Argument(metavar="RUN…", help=f"{RUN}.", show_default=False)]


@runs.command("list", epilog="Example: subl runs list --json")
def list_runs(store: StoreFolder = None, as_json: AsJson = False) -> None:
    """List the runs of this project, newest first."""
    found = [read_run(folder) for folder in run_folders(store)]
    if as_json:
        keys = ("run", "recipe", "title", "status", "arms", "folder")
        print_json([{key: record.get(key) for key in keys} for record in found])
        return
    rows = [
        (record["run"], record["status"], str(len(record.get("variants", []))), str(record.get("recipe", "?")))
        for record in found
    ]
    print_table(("run", "status", "variants", "recipe"), rows)


@runs.command("show", epilog="Example: subl runs show 20260101-120000-000-micro-owl-1a2b3c")
def show_run(
    run: Annotated[str, typer.Argument(help=f"{RUN}; the newest if left out.")] = "",
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show the results of one run again."""
    record = read_run(find_run(run, store))
    if as_json:
        print_json(record)
        return
    from rich.console import Console

    from subl.report.summary import summarise
    from subl.report.terminal import print_summary

    console = Console()
    print_summary(summarise(record), console)
    console.print(f"run folder: {record['folder']}", highlight=False, soft_wrap=True)


@runs.command("report", epilog="Example: subl runs report 20260101-120000-000-micro-owl-1a2b3c")
def write_run_report(
    run: Annotated[str, typer.Argument(help=f"{RUN}; the newest if left out.")] = "", store: StoreFolder = None
) -> None:
    """Write report.html and report.md of a run again.

    From the run folder alone, for runs of earlier versions or after a kill.
    """
    from subl.report.document import write_report

    typer.echo(str(write_report(find_run(run, store))))


@runs.command("rm", epilog="Example: subl runs rm 20260101-120000-000-micro-owl-1a2b3c --yes")
def remove_runs(
    names: Names,
    store: StoreFolder = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only named.")] = False,
) -> None:
    """Remove run folders.

    Stage results stay in the store (see subl cache prune), and MLflow keeps its copy.
    """
    import shutil

    from subl.errors import StoreError
    from subl.run.store import writing

    folders = list(dict.fromkeys(named_run(name, store) for name in names))
    busy = [folder.name for folder in folders if read_run(folder)["status"] == "running"]
    if busy:
        raise StoreError(f"still running: {', '.join(busy)}; stop it first, nothing was removed")
    for folder in folders:
        if yes:
            with writing(folder):
                shutil.rmtree(folder)
        typer.echo(f"{'removed' if yes else 'would remove'} {folder}")
    if not yes:
        typer.echo("nothing removed yet; add --yes", err=True)


@runs.command("sync", epilog="Example: subl runs sync 20260101-120000 --to http://127.0.0.1:5000")
def sync_runs(
    names: Names,
    to: Annotated[
        str, typer.Option("--to", metavar="URI", help="MLflow server or sqlite:/// address.", show_default=False)
    ],
    experiment: Annotated[str | None, typer.Option(help="MLflow experiment; the recipe's name if not given.")] = None,
    store: StoreFolder = None,
    again: Annotated[bool, typer.Option("--again", help="Also runs that were mirrored there before.")] = False,
) -> None:
    """Mirror run folders into another MLflow store.

    Parameters, metrics with their curves, tables, figures, findings and reports, from the run folders alone.
    """
    from subl.errors import StoreError
    from subl.run.sync import sync_run, synced

    folders = list(dict.fromkeys(named_run(name, store) for name in names))
    failures: list[str] = []
    for folder in folders:
        if not again and to in synced(folder):
            typer.echo(f"{folder.name}: is there already (--again makes a second copy)")
            continue
        links = sync_run(folder, to, experiment=experiment, warn=failures.append)
        if failures:
            raise StoreError(f"{folder.name} was not mirrored: {failures[0]}")
        where = "".join(f"; {label}: {link}" for label, link in links.items())
        typer.echo(f"{folder.name}: mirrored{where}")
