"""`subl cache`: the results that the store keeps."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subl.cli.options import AllowLocal, Arms, AsJson, Overrides, PluginFiles, StoreFolder
from subl.cli.output import print_json, print_table

if TYPE_CHECKING:
    from pathlib import Path

    from subl.run.caching import Cause, Stored

HASH = re.compile(r"\b[0-9a-f]{20,}\b")
"""Fingerprints and hashes of files, as `subl cache why` meets them in keys."""
SHORT = 8
"""Characters of them that people are shown; --json has them whole."""

cache = typer.Typer(
    help="List, explain and prune stored results of stages.",
    epilog="Example: subl cache list --json",
    no_args_is_help=True,
)


@cache.command("list", epilog="Example: subl cache list --json")
def list_cache(store: StoreFolder = None, as_json: AsJson = False) -> None:
    """List the stored results of stages, newest first."""
    found = _found(store)
    if as_json:
        print_json([_record(one) for one in found])
        return
    rows = [
        (one.fingerprint, one.name, one.plugin, one.state, _size(one.size), _when(one.changed), str(len(one.runs)))
        for one in found
    ]
    print_table(("fingerprint", "stage", "plugin", "state", "size", "changed", "runs"), rows)
    typer.echo(f"{len(found)} results, {_size(sum(one.size for one in found))}", err=True)


@cache.command("why", epilog="Example: subl cache why micro_owl --set inducer.updates=80")
def explain_cache(
    items: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE | FINGERPRINT FINGERPRINT", help="A recipe, or two results.", show_default=False
        ),
    ],
    overrides: Overrides = (),
    arms: Arms = (),
    plugins: PluginFiles = (),
    allow_local_plugins: AllowLocal = False,  # noqa: ARG001 (its callback acts)
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Say which input makes a stage run again.

    Every stage that has no result is compared with the stored one that is most like it; a changed input is followed up
    to the stage where the change began. Two fingerprints (or their beginnings) are compared with each other.
    """
    from subl.run.caching import Cause, changes, why
    from subl.run.runner import project_home
    from subl.run.store import Store

    found = _found(store)
    if len(items) == 2:
        first, second = (_one(item, found) for item in items)
        keys = {one.fingerprint: one.key for one in found}
        causes = [Cause(second.name, second.fingerprint, first, changes(first.key, second.key, keys))]
    else:
        from subl.errors import SublError
        from subl.recipe.loading import load_experiment
        from subl.run.plan import build_plan

        if len(items) > 2:
            raise SublError("give one recipe, or two fingerprints")
        plan = build_plan(load_experiment(items[0], overrides=overrides, arms=arms, plugin_files=plugins))
        stages = [(stage.name, stage.fingerprint, _plain(stage.key)) for stage in plan.unique()]
        causes = why(stages, Store(project_home(store)), found)
    if as_json:
        print_json([_cause_record(cause) for cause in causes])
    elif not causes:
        typer.echo("every stage is cached")
    else:
        _print_causes(causes)


@cache.command("prune", epilog="Example: subl cache prune --older-than 7 --yes")
def prune_cache(
    store: StoreFolder = None,
    older_than: Annotated[
        float, typer.Option("--older-than", metavar="DAYS", help="Keep what changed within so many days.", min=0)
    ] = 0.0,
    yes: Annotated[bool, typer.Option("--yes", help="Remove them; without it they are only named.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove results that no run folder names.

    Whatever a run in runs/ consists of stays; what is removed can always be computed again.
    """
    from subl.run.caching import remove, unneeded
    from subl.run.runner import project_home

    chosen = unneeded(_found(store), older_than=older_than * 86_400)
    gone = [one for one in chosen if yes and remove(project_home(store), one)]
    if as_json:
        print_json([{**_record(one), "removed": one in gone} for one in chosen])
        return
    for one in chosen:
        verb = "removed" if one in gone else "in use, kept" if yes else "would remove"
        typer.echo(f"{verb} {one.folder.name}  {one.name} ({one.state}, {_size(one.size)})")
    whole = _size(sum(one.size for one in (gone if yes else chosen)))
    typer.echo(
        f"{whole} freed" if yes else f"{whole} in {len(chosen)} results, nothing removed yet; add --yes", err=True
    )


def _found(store: Path | None) -> list[Stored]:
    from subl.run.caching import stored
    from subl.run.runner import project_home

    return stored(project_home(store))


def _one(name: str, found: list[Stored]) -> Stored:
    from subl.errors import StoreError

    matching = [one for one in found if one.fingerprint.startswith(name) and one.key]
    if len({one.fingerprint for one in matching}) == 1:
        return matching[0]
    problem = "fits several results" if matching else "is no stored result"
    raise StoreError(f"{name!r} {problem}; subl cache list shows them")


def _print_causes(causes: list[Cause]) -> None:
    """Print every reason once, with all stages that it makes run again."""
    reasons: dict[str, list[Cause]] = {}
    for cause in causes:
        reasons.setdefault(_reason(cause), []).append(cause)
    for reason, of in reasons.items():
        stages = dict.fromkeys(cause.stage for cause in of)
        typer.echo(f"{', '.join(stages)}\n{reason}")


def _reason(cause: Cause) -> str:
    if cause.nearest is None:
        return "  nothing of this kind is stored yet"
    lines = [f"  {path}: {_shown(there)} → {_shown(here)}" for path, (there, here) in cause.changes.items()]
    return "\n".join(lines) or "  nothing differs: the result was removed, or is not complete"


def _cause_record(cause: Cause) -> dict[str, Any]:
    return {
        "stage": cause.stage,
        "fingerprint": cause.fingerprint,
        "nearest": cause.nearest.fingerprint if cause.nearest else None,
        "changes": {path: list(values) for path, values in cause.changes.items()},
    }


def _record(one: Stored) -> dict[str, Any]:
    return {
        "fingerprint": one.fingerprint,
        "stage": one.name,
        "plugin": one.plugin,
        "state": one.state,
        "bytes": one.size,
        "changed": datetime.fromtimestamp(one.changed).astimezone().isoformat(timespec="seconds"),
        "runs": list(one.runs),
        "folder": str(one.folder),
    }


def _plain(key: Any) -> Any:
    """Return a key as JSON gives it back: as the manifests hold theirs."""
    return json.loads(json.dumps(key))


def _shown(value: Any) -> str:
    text = "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = HASH.sub(lambda match: match[0][:SHORT] + "…", text)
    return text if len(text) <= 80 else text[:79] + "…"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError
