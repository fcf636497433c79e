"""`subl diff`: what tells two recipes or runs apart, after all layers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subl.cli.lookup import FINDINGS, find_run, run_folders
from subl.cli.options import AllowLocal, AsJson, StoreFolder
from subl.cli.output import print_json, print_table

if TYPE_CHECKING:
    from subl.artifacts import Json

EPILOG = "Example: subl diff micro_owl smoke"

Side = Annotated[str, typer.Argument(help="A recipe's path or name, or a run.", show_default=False)]
EVERY = "every variant"


def diff(
    first: Side,
    second: Side,
    store: StoreFolder = None,
    allow_local_plugins: AllowLocal = False,  # noqa: ARG001 (its callback acts)
    as_json: AsJson = False,
) -> None:
    """Show what differs between two recipes or runs.

    Both are resolved first: what they extend, arms, sweep points, flags and defaults. Of two runs, versions and git
    state are compared as well.
    """
    sides = _variants(first, store), _variants(second, store)
    records = [*_changes(*sides), *_surroundings(first, second, store)]
    if as_json:
        print_json(records)
        return
    if not records:
        typer.echo("no difference")
        return
    rows = [(str(r["variant"]), str(r["key"]), _shown(r["first"]), _shown(r["second"])) for r in records]
    print_table(("variant", "key", _short(first), _short(second)), rows)


def _variants(side: str, store: Path | None) -> dict[str, Mapping[str, Any]]:
    """Return variant's label → resolved recipe, of a recipe or of a run."""
    folder = _run(side, store)
    if folder is None:
        from subl.recipe.loading import load_experiment
        from subl.run.plan import VariantPlan

        found = load_experiment(side).variants
        return {VariantPlan(v, ()).label: json.loads(v.recipe.to_json()) for v in found}
    from subl.errors import StoreError
    from subl.report.recorded import read_recorded

    recipes = dict(read_recorded(folder).recipes)
    if not recipes:
        raise StoreError(f"{folder}: recipe.json is missing; compare the recipe's file instead")
    return recipes


def _run(side: str, store: Path | None) -> Path | None:
    """Return the folder of a run, or None for a recipe."""
    if side.endswith(".toml"):
        return None
    if (Path(side) / FINDINGS).is_file():
        return find_run(side, store)
    from subl.recipe import shipped

    if side in shipped.names() or not any(folder.name.startswith(side) for folder in run_folders(store)):
        return None
    return find_run(side, store)


def _changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[dict[str, Json]]:
    """Return variants that one side lacks, then the changes of the others; what several variants share once.

    Of an arm whose sweep points are all others on the two sides, the first of each are compared.
    """
    from subl.recipe.differences import differences

    firsts = [{_arm(label): recipe for label, recipe in reversed(list(side.items()))} for side in (first, second)]
    common = {_arm(label) for label in first if label in second}
    alike = [arm for arm in firsts[0] if arm in firsts[1] and arm not in common]
    labels = list(dict.fromkeys([*first, *second]))
    shared: dict[str, tuple[str, Any, Any, list[str]]] = {}
    for label in labels:
        if label not in first or label not in second:
            found = {"": ("present" if label in first else None, "present" if label in second else None)}
        else:
            found = differences(first[label], second[label])
        _share(shared, found, label)
    for arm in alike:
        _share(shared, differences(firsts[0][arm], firsts[1][arm]), arm)
    both = [label for label in labels if label in first and label in second] + alike
    return [
        _record(_together(found, both if path else labels), path, here, there)
        for path, here, there, found in shared.values()
    ]


def _share(
    shared: dict[str, tuple[str, Any, Any, list[str]]], found: Mapping[str, tuple[Any, Any]], label: str
) -> None:
    for path, (here, there) in found.items():
        change: tuple[str, Any, Any, list[str]] = (path, here, there, [])
        shared.setdefault(json.dumps(change[:3]), change)[3].append(label)


def _arm(label: str) -> str:
    return label.partition(" · ")[0]


def _together(labels: Sequence[str], every: Sequence[str]) -> str:
    """Name variants by their arms where all of an arm are meant."""
    from subl.report.formatting import names

    if len(labels) == len(every):
        return EVERY
    arms: dict[str, list[str]] = {}
    for label in every:
        arms.setdefault(_arm(label), []).append(label)
    whole = [arm for arm, members in arms.items() if set(members) <= set(labels)]
    return names([*whole, *(label for label in labels if _arm(label) not in whole)], 4)


def _surroundings(first: str, second: str, store: Path | None) -> list[dict[str, Json]]:
    """Return how versions, machine and git state of two runs differ."""
    from subl.recipe.differences import differences
    from subl.report.recorded import ENVIRONMENT, read_table

    paths = [folder / ENVIRONMENT for side in (first, second) if (folder := _run(side, store)) is not None]
    if len(paths) < 2 or not all(path.is_file() for path in paths):
        return []
    there = [{k: v for k, v in read_table(path).items() if k not in ("command", "folder")} for path in paths]
    return [_record("environment", path, *values) for path, values in differences(*there).items()]


def _record(variant: str, key: str, first: Any, second: Any) -> dict[str, Json]:
    return {"variant": variant, "key": key, "first": first, "second": second}


def _shown(value: Any) -> str:
    text = "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:79] + "…"


def _short(side: str) -> str:
    return side if len(side) <= 40 else "…" + side[-39:]
