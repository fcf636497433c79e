"""Measuring a preference's candidates on a base model, outside a run, by the same stages and cache as a run's."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

from subl.artifacts import Findings
from subl.context import Bar
from subl.recipe.model import ProbeUse, Recipe
from subl.registry.slots import Chosen
from subl.run.estimates import work
from subl.run.jobs import Job, Loaders, fulfil
from subl.run.plan import Stage, base_stages
from subl.run.sink import Display
from subl.run.store import Metric, Store

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


def survey(stages: list[Stage], recipe: Recipe, store: Store, display: Display, loaders: Loaders) -> Findings:
    """Return what the last of the stages found, from the store or computed.

    Raises:
        StageError: A stage failed.
    """
    for stage in stages:
        job = Job(
            stage=stage,
            label="survey",
            filtering=None,
            compute=recipe.compute,
            keep_going=False,
            units=work(stage, recipe),
            since=0.0,
        )
        fulfil(job, store, _Shown(display), loaders)
    found = store.entry(stages[-1].fingerprint).artifact()
    assert isinstance(found, Findings)
    return found


@dataclass(frozen=True, slots=True)
class _Shown:
    """Shows what a job says; there is no run that would keep its events and metrics."""

    display: Display

    def say(self, message: str) -> None:
        self.display.say(message)

    def warn(self, message: str) -> None:
        self.display.warn(message)

    def bar(self, label: str, total: int | None, done: int) -> AbstractContextManager[Bar]:
        return self.display.bar(label, total, done)

    def event(self, name: str, facts: Mapping[str, Any]) -> None:
        pass

    def metric(self, metric: Metric) -> None:
        pass
