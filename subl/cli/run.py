"""`subl run`: plan, run, and show what came out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from subl.cli.options import AllowLocal, Arms, Overrides, PluginFiles, StoreFolder, Workers
from subl.errors import USER_ERROR

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from rich.console import Console

    from subl.cli.display import TerminalDisplay
    from subl.recipe.loading import Experiment
    from subl.run.plan import Plan, StageKind
    from subl.run.runner import Options
    from subl.run.store import Store
    from subl.tracking.tracker import Tracker

EPILOG = "Example: subl run micro_owl --set trait.target=panda --set seed=0"


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe's path, or the name of a shipped one.", show_default=False)],
    overrides: Overrides = (),
    arms: Arms = (),
    plugins: PluginFiles = (),
    allow_local_plugins: AllowLocal = False,  # noqa: ARG001 (its callback acts)
    store: StoreFolder = None,
    until: Annotated[str | None, typer.Option(help="Stop after this kind of stage, e.g. generate.")] = None,
    force: Annotated[list[str] | None, typer.Option(help="Compute this kind of stage again even if cached.")] = None,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Go on past failed checks and failed arms.")] = False,
    workers: Workers = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, run nothing.")] = False,
) -> None:
    """Run an experiment: every arm and sweep point, cached stages skipped.

    The same command again resumes where an interrupted run stopped.
    """
    from subl.recipe.loading import load_experiment
    from subl.run.plan import build_plan
    from subl.run.runner import Options

    options = Options(
        until=kind_of_stage(until), force=frozenset(_kinds(force or [])), keep_going=keep_going, workers=workers
    )
    experiment = load_experiment(recipe, overrides=overrides, plugin_files=plugins, arms=arms)
    start(build_plan(experiment, lenient=dry_run), store, options, dry_run=dry_run)


def start(plan: Plan, store: Path | None, options: Options, *, dry_run: bool = False) -> None:
    """Run a plan, or print it; exit with 2 if an arm failed."""
    from rich.console import Console

    from subl.cli.display import TerminalDisplay
    from subl.run.agenda import to_compute
    from subl.run.runner import project_home
    from subl.run.store import Store

    console = Console(stderr=False)
    display = TerminalDisplay(console)
    for warning in plan.experiment.warnings:
        display.warn(warning)
    results = Store(project_home(store))
    tracker = None if dry_run else _tracker(plan.experiment, results, display)
    todo = to_compute(plan, results, until=options.until, force=options.force)
    _print_plan(plan, results, options.until, todo, console)
    if dry_run:
        _print_estimate(plan, results, todo, display)
    if tracker is not None:
        _execute(plan, results, options, tracker, console, display)


def _tracker(experiment: Experiment, store: Store, display: TerminalDisplay) -> Tracker:
    """Start tracking early: MLflow takes seconds to start, beside the first stage."""
    from subl.tracking.tracker import open_tracker

    tracking = experiment.variants[0].recipe.tracking
    return open_tracker(
        enabled=tracking.enabled,
        uri=tracking.uri,
        experiment=tracking.experiment or experiment.name,
        home=store.home,
        warn=display.warn,
    )


def _execute(
    plan: Plan, store: Store, options: Options, tracker: Tracker, console: Console, display: TerminalDisplay
) -> None:
    from subl.report.document import write_report
    from subl.report.summary import summarise
    from subl.report.terminal import print_summary
    from subl.run.executors import executor_for
    from subl.run.mirror import Mirror
    from subl.run.owner import reconcile
    from subl.run.record import RunRecord
    from subl.run.runner import Runner

    executor = executor_for(plan, store, options.workers)
    for name in reconcile(store.home):
        display.say(f"{name} was killed before it ended; what it finished is kept")
    record = RunRecord(store.home, plan, command=["subl", *sys.argv[1:]], options=options.recorded())
    runner = Runner(
        plan=plan,
        store=store,
        record=record,
        mirror=Mirror(tracker, plan, record),
        display=display,
        options=options,
        executor=executor,
        report=write_report,
    )
    try:
        status = runner.run()
    except KeyboardInterrupt:
        display.say("interrupted; finished work is kept, the same command resumes it")
        raise
    finally:
        display.say(f"run folder: {record.folder}")
    if options.until is None:
        print_summary(summarise(record.findings()), console)
    display.say(f"report:     {record.folder / 'report.html'}")
    for label, link in tracker.links().items():
        display.say(f"{label + ':':<11} {link}")
    if status == "failed":
        raise typer.Exit(USER_ERROR)


def _print_plan(plan: Plan, store: Store, until: StageKind | None, todo: Collection[str], console: Console) -> None:
    from rich.table import Table

    from subl.run.plan import STAGE_KINDS

    table = Table(
        box=None, header_style="bold", title=plan.experiment.title or None, title_justify="left", pad_edge=False
    )
    table.add_column("variant")
    for kind in STAGE_KINDS:
        table.add_column(kind)
    seen: set[str] = set()
    counts = {"run": 0, "cached": 0}
    for variant in plan.variants:
        cells: dict[str, list[str]] = {kind: [] for kind in STAGE_KINDS}
        for stage in variant.until(until):
            first = stage.fingerprint not in seen
            seen.add(stage.fingerprint)
            state = "run" if stage.fingerprint in todo else "cached"
            counts[state] += first
            cells[stage.kind].append(state if first or state == "cached" else "shared")
        table.add_row(variant.label, *(_cell(cells[kind]) for kind in STAGE_KINDS))
    console.print(table)
    console.print(
        f"{counts['run']} stages to run, {counts['cached']} cached, in {store.root}", highlight=False, soft_wrap=True
    )


def _print_estimate(plan: Plan, store: Store, todo: Collection[str], display: TerminalDisplay) -> None:
    from subl.run.estimates import estimate

    cost = estimate(plan, store, todo)
    for message in plan.unresolved:
        display.warn(message)
    tokens = f" of at most {cost.tokens:,} tokens" if cost.tokens else ""
    display.say(f"to do: {cost.updates:,} optimizer updates, {cost.rows:,} rows to generate{tokens}")
    if cost.trained:
        display.say(f"students learn from at most {cost.trained:,} tokens of completions, every epoch counted")
    if cost.seconds is not None:
        display.say(
            f"about {_duration(cost.seconds)} and {cost.size / 1e6:,.0f} MB, by the past stages of this store"
            + (f", without {', '.join(cost.unknown)}" if cost.unknown else "")
        )
    elif cost.stages:
        display.say("time and disk: unknown, this store has no finished stage of these kinds")
    if cost.sides:
        known = "disk unknown until the run has read the first batch"
        if cost.sides_size is not None:
            known = f"about {cost.sides_size / 1e6:,.1f} MB more, by past trainings of such students"
        display.say(f"teacher_cache: {cost.sides} to make, {known}")
    for name, size in cost.weights.items():
        display.say(f"memory: {size / 1e9:.1f} GB for the weights of {name}, by the size in its name")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _cell(states: list[str]) -> str:
    """Summarise the states of one kind's stages: "run", "cached", "shared", "2 run", "–"."""
    if not states:
        return "–"
    running = states.count("run")
    if running:
        return "run" if running == 1 else f"{running} run"
    return "cached" if "cached" in states else "shared"


def _kinds(names: list[str]) -> list[StageKind]:
    return [kind for name in names if (kind := kind_of_stage(name)) is not None]


def kind_of_stage(name: str | None) -> StageKind | None:
    """Return the kind of stage that an option names; None for None.

    Raises:
        SublError: There is no such kind.
    """
    from subl.errors import SublError, suggest
    from subl.run.plan import STAGE_KINDS

    if name is None:
        return None
    for kind in STAGE_KINDS:
        if kind == name:
            return kind
    raise SublError(f"unknown kind of stage {name!r}{suggest(name, STAGE_KINDS)}")
