"""Measuring a preference's candidates on a base model, outside a run, by the same stages and cache as a run's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from subl.artifacts import Findings
from subl.context import Loader
from subl.recipe.model import ProbeUse, Recipe
from subl.registry.slots import Chosen
from subl.run.computing import Bench
from subl.run.plan import Stage, base_stages
from subl.run.sink import Display
from subl.run.store import Store

Side = Literal["teacher", "student"]
PROBE = "preference"


def survey_stages(recipe: Recipe, side: Side, trait: Chosen) -> list[Stage]:
    """Return the stages that measure a trait's candidates on a recipe's base model.

    A recipe that measures this trait by the same probe has the same stage, so that either finds the other's result.

    Args:
        recipe: Names the models, the system slot, the seed and the number format.
        side: Whose base model.
        trait: The preference, with any of its candidates as the target.

    Raises:
        ModelError: The model cannot be identified.
    """
    own = next((use for use in recipe.probes if use.chosen.name == PROBE and "base" in use.on), None)
    use = own or ProbeUse.model_validate({"plugin": PROBE})
    return base_stages(recipe.model_copy(update={"trait": trait, "probes": (use,)}), side)


def survey(
    stages: list[Stage],
    recipe: Recipe,
    store: Store,
    display: Display,
    loader: Callable[[], tuple[Loader, str]],
) -> Findings:
    """Return what the last of the stages found, from the store or computed.

    Raises:
        StageError: A stage failed.
    """
    bench = Bench(
        recipe=recipe,
        label="survey",
        store=store,
        display=display,
        loader=loader,
        event=lambda *_, **__: None,
        forward=lambda _: None,
    )
    found: Any = None
    for stage in stages:
        with store.locked(stage.fingerprint, display.say) as entry:
            if not store.cached(stage.fingerprint, display.warn):
                bench.compute(stage, entry)
            found = entry.artifact()
    assert isinstance(found, Findings)
    return found
