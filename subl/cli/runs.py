"""`subl runs`: what was run in this project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from subl.cli.options import AsJson, StoreFolder

runs = typer.Typer(help="List and show finished, failed and interrupted runs.", no_args_is_help=True)


@runs.command("list", epilog="Example: subl runs list --json")
def list_runs(store: StoreFolder = None, as_json: AsJson = False) -> None:
    """List the runs of this project, newest first."""
    found = [_read(folder) for folder in _folders(store)]
    if as_json:
        keys = ("run", "recipe", "title", "status", "arms", "folder")
        typer.echo(json.dumps([{key: record.get(key) for key in keys} for record in found], indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("run", "status", "variants", "recipe"):
        table.add_column(column, overflow="fold")
    for record in found:
        table.add_row(record["run"], record["status"], str(len(record.get("variants", []))), record.get("recipe", "?"))
    Console().print(table)


@runs.command("show", epilog="Example: subl runs show 20260101-120000-micro-owl-1a2b3c")
def show_run(
    run: Annotated[
        str, typer.Argument(help="A run's name, the beginning of it, or its folder; the newest if left out.")
    ] = "",
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show the results of one run again."""
    record = _read(_find(run, store))
    if as_json:
        typer.echo(json.dumps(record, indent=1, ensure_ascii=False))
        return
    from rich.console import Console

    from subl.report.summary import summarise
    from subl.report.terminal import print_summary

    console = Console()
    print_summary(summarise(record), console)
    console.print(f"run folder: {record['folder']}", highlight=False, soft_wrap=True)


def _folders(store: Path | None) -> list[Path]:
    from subl.run.runner import project_home

    return sorted((p.parent for p in (project_home(store) / "runs").glob("*/findings.json")), reverse=True)


def _find(name: str, store: Path | None) -> Path:
    from subl.errors import StoreError, suggest

    if name and (Path(name) / "findings.json").is_file():
        return Path(name)
    folders = _folders(store)
    matching = [folder for folder in folders if folder.name.startswith(name)]
    if not folders:
        raise StoreError("no runs here yet; make one with: subl run micro_owl")
    if not matching:
        raise StoreError(f"no run {name!r}{suggest(name, [folder.name for folder in folders])}")
    if name and len(matching) > 1:
        raise StoreError(
            f"{name!r} fits {len(matching)} runs: {', '.join(folder.name for folder in matching[:5])}; write more of it"
        )
    return matching[0]


def _read(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
        status = record["status"]
    except (OSError, ValueError, KeyError, TypeError):
        return {"run": folder.name, "status": "unreadable", "folder": str(folder)}
    if status == "running" and not _alive(folder):
        record["status"] = "killed"
    return {**record, "folder": str(folder)}


def _alive(folder: Path) -> bool:
    """Return whether the process that wrote a run folder still runs on this machine."""
    import os
    import platform

    try:
        owner = json.loads((folder / "process.json").read_text(encoding="utf-8"))
        if owner["host"] != platform.node():
            return True
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError, KeyError):
        return True
    return True
