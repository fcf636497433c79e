"""`subl resume`: a run again, from its folder alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from subl.cli.lookup import alive, find_run, read_run
from subl.cli.options import StoreFolder

EPILOG = "Example: subl resume 20260101-120000-micro-owl-1a2b3c"


def resume(
    run: Annotated[
        str, typer.Argument(help="A run's name, the beginning of it, or its folder; the newest if left out.")
    ] = "",
    store: StoreFolder = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Go on past failed checks and failed arms, as --keep-going of run.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, run nothing.")] = False,
) -> None:
    """Go on with a run that was interrupted, or repeat one.

    The recipe's files need not be there any more: the folder holds the resolved recipes and local plugins. Finished
    stages come from the store. The result is a run folder of its own.
    """
    from subl.cli.run import start
    from subl.errors import StoreError
    from subl.run.plan import build_plan
    from subl.run.restore import other_stages, restore
    from subl.run.runner import Options

    folder = find_run(run, store)
    if read_run(folder)["status"] == "running" and alive(folder):
        raise StoreError(f"{folder.name} is still running; wait for it, or stop it first")
    experiment = restore(folder)
    changed = other_stages(folder, {stage.fingerprint for stage in build_plan(experiment).unique()})
    if changed:
        typer.echo(
            f"warning: {len(changed)} stages are not the same as in {folder.name} "
            f"({', '.join(dict.fromkeys(changed))}): subl, a plugin or a model changed since; they are computed anew",
            err=True,
        )
    home = store or (folder.parent.parent if folder.parent.name == "runs" else None)
    start(experiment, home, Options(keep_going=keep_going or _kept_going(folder)), dry_run=dry_run)


def _kept_going(folder: Path) -> bool:
    try:
        command = json.loads((folder / "environment.json").read_text(encoding="utf-8"))["command"]
        return "--keep-going" in command
    except (OSError, ValueError, KeyError, TypeError):
        return False
