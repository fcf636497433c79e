"""`subl resume`: a run again, from its folder alone."""

from __future__ import annotations

from typing import Annotated

import typer

from subl.cli.lookup import find_run, read_run
from subl.cli.options import AllowLocal, StoreFolder, Workers

EPILOG = "Example: subl resume 20260101-120000-000-micro-owl-1a2b3c"


def resume(
    run: Annotated[
        str, typer.Argument(help="A run's name, the beginning of it, or its folder; the newest if left out.")
    ] = "",
    store: StoreFolder = None,
    allow_local_plugins: AllowLocal = False,  # noqa: ARG001 (its callback acts)
    until: Annotated[
        str | None, typer.Option(help="Stop after this kind of stage; as the run did if left out.")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Go on past failed checks and failed arms, as --keep-going of run.")
    ] = False,
    workers: Workers = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, run nothing.")] = False,
) -> None:
    """Go on with a run that was interrupted, or repeat one.

    The recipe's files need not be there any more: the folder holds the resolved recipes and local plugins. Finished
    stages come from the store. The result is a run folder of its own.
    """
    from subl.cli.run import kind_of_stage, start
    from subl.errors import StoreError
    from subl.run.owner import alive
    from subl.run.plan import build_plan
    from subl.run.restore import other_stages, recorded_options, restore
    from subl.run.runner import Options, project_home

    folder = find_run(run, store)
    if read_run(folder)["status"] == "running" and alive(folder):
        raise StoreError(f"{folder.name} is still running; wait for it, or stop it first")
    experiment = restore(folder, project_home(store))
    plan = build_plan(experiment, lenient=dry_run)
    changed = other_stages(folder, {stage.fingerprint for stage in plan.unique()})
    if changed and not plan.unresolved:
        typer.echo(
            f"warning: {len(changed)} stages are not the same as in {folder.name} "
            f"({', '.join(dict.fromkeys(changed))}): subl, a plugin or a model changed since; they are computed anew",
            err=True,
        )
    home = store or (folder.parent.parent if folder.parent.name == "runs" else None)
    before = recorded_options(folder)
    options = Options(
        until=kind_of_stage(until or before.get("until")),
        force=frozenset(kind for name in before.get("force", ()) if (kind := kind_of_stage(name)) is not None),
        keep_going=keep_going or bool(before.get("keep_going")),
        workers=workers,
        started=before.get("started"),
    )
    start(plan, home, options, dry_run=dry_run)
