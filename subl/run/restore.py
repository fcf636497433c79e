"""A run folder as an experiment again: the recipes, plugins and files that were frozen in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from subl.errors import RecipeError, StoreError
from subl.recipe.loading import Experiment, Variant
from subl.recipe.model import Recipe
from subl.registry.consent import require_consent
from subl.registry.local import load_local
from subl.registry.registry import registry
from subl.run.owner import OWNER_FILE


def restore(folder: Path, home: Path) -> Experiment:
    """Return the experiment of a run, from its folder alone; its plugin files take the place of those loaded before.

    Args:
        folder: The run folder. Plugin files in one that is not below `home` need consent: somebody else may have
            written them.
        home: The project's folder for results.

    Raises:
        StoreError: The folder lacks a file, or it is malformed.
        RecipeError: This version of subl does not take one of its recipes.
        PluginError: A local plugin file fails to load, or nobody has allowed it.
    """
    findings, recorded = read_json(folder / "findings.json"), read_json(folder / "recipe.json")
    plugin_files = sorted((folder / "plugins").glob("*.py"))
    registry.forget_local()
    for path in plugin_files:
        require_consent(path, folder, (home,), command=f"subl resume {folder}")
        load_local(path)
    try:
        variants = tuple(_variant(record) for record in recorded["variants"])
        name = findings["recipe"]
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{folder}: not in the form that this version of subl writes ({error!r})") from error
    if not variants:
        raise StoreError(f"{folder / 'recipe.json'} holds no variant; run the recipe's file instead")
    return Experiment(
        name=name,
        path=folder / "recipe.json",
        title=variants[0].recipe.title,
        sources=tuple(sorted((folder / "recipe").glob("*.toml"))),
        plugin_files=tuple(plugin_files),
        variants=variants,
        warnings=(),
    )


def other_stages(folder: Path, fingerprints: set[str]) -> list[str]:
    """Return the names of a run's stages whose fingerprint is not among those planned now."""
    path = folder / "plan.json"
    recorded = read_json(path) if path.is_file() else {}
    return [str(stage.get("name", "?")) for print_, stage in recorded.items() if print_ not in fingerprints]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON table of a run folder.

    Raises:
        StoreError: It is missing or malformed.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); run the recipe's file instead") from error
    if not isinstance(content, dict):
        raise StoreError(f"{path}: not a table; run the recipe's file instead")
    return content


def _variant(record: Mapping[str, Any]) -> Variant:
    try:
        recipe = Recipe.from_json(json.dumps(record["recipe"]))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)[:4])
        raise RecipeError(
            f"{record.get('label', 'a variant')}: this version of subl does not take the recipe as it was run "
            f"({faults}); install the version that environment.json names, or run the recipe's file"
        ) from error
    return Variant(record["arm"], record["point"], recipe, record.get("origins", {}))


def recorded_options(folder: Path) -> dict[str, Any]:
    """Return how a run was started: `until`, `keep_going`, `force` and `started`; what is not recorded is left out."""
    owner, environment = (
        read_json(folder / name) if (folder / name).is_file() else {} for name in (OWNER_FILE, "environment.json")
    )
    if isinstance(owner.get("options"), dict):
        return dict(owner["options"])
    # Runs of earlier versions have their command line only.
    command = environment.get("command")
    return {"keep_going": True} if isinstance(command, list) and "--keep-going" in command else {}
