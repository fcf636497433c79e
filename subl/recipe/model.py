"""The recipe: what one variant of an experiment consists of, validated and frozen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from subl.artifacts import Role
from subl.registry.config import StrictModel
from subl.registry.kinds import KindName
from subl.registry.slots import PLUGIN_KEY, Chosen, Use

__all__ = ["DEFAULTS", "LISTS", "SLOTS", "Chosen", "Recipe"]

DEFAULTS: Mapping[str, Any] = {"check": {PLUGIN_KEY: "teacher_check"}}
"""The lowest layer of every recipe, under which only the fields' own defaults lie."""

SLOTS: Mapping[str, KindName] = {
    "trait": "trait",
    "teacher": "model",
    "student": "model",
    "inducer": "inducer",
    "check": "probe",
    "generator": "generator",
    "distiller": "distiller",
}
"""Sections that pick one plugin, and its kind."""

LISTS: Mapping[str, KindName] = {"filters": "filter", "probes": "probe"}
"""Sections that pick several."""


class ProbeUse(StrictModel):
    """A probe and where it is used; in the recipe one table holds these keys and the plugin's own."""

    chosen: Annotated[Chosen, Use("probe")]
    on: tuple[Role, ...] = ("base", "teacher", "student")
    """Which models are measured."""
    name: str
    """Name in metrics, `<role>.<name>.<measure>`; the plugin's name unless set."""

    @model_validator(mode="before")
    @classmethod
    def _split(cls, table: Any) -> Any:
        if not isinstance(table, Mapping) or "chosen" in table:
            return table
        rest = {key: value for key, value in table.items() if key not in ("on", "name")}
        own = {key: table[key] for key in ("on", "name") if key in table}
        plugin = table.get(PLUGIN_KEY)
        return {"name": plugin if isinstance(plugin, str) else "unnamed", **own, "chosen": rest}

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise ValueError(f"should hold letters, digits, - and _ only, not {name!r}")
        return name

    @field_validator("on")
    @classmethod
    def _once(cls, on: tuple[Role, ...]) -> tuple[Role, ...]:
        if not on:
            raise ValueError('names no model; choose from "base", "teacher" and "student"')
        if len(set(on)) < len(on):
            raise ValueError("names a model twice")
        return on

    @model_serializer(mode="wrap")
    def _join(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        own = handler(self)
        return {**own.pop("chosen"), **own}


class Data(StrictModel):
    """Which rows the student is trained on."""

    rows: Annotated[int, Field(gt=0)] | None = None
    """Rows to train on, drawn from those that the filters keep; all of them unless set."""
    allow_fewer: bool = False
    """Go on with fewer rows than asked instead of stopping."""


class Audit(StrictModel):
    """How the rows that a student is trained on are audited, in every arm, once the filters are done."""

    max_overt: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest share of rows whose completion may name the trait; more is a leak, and makes the arm's verdict invalid.
    The control arm's rows are counted, not judged."""
    classifier_rows: Annotated[int, Field(ge=0)] = 2000
    """Most rows of each arm that the n-gram classifier sees; 0 leaves it out."""


class Chat(StrictModel):
    """What stands in the system slot of conversations: absent unless set, "" for an empty one."""

    system: str | None = None
    """The student's system prompt, in training and in evaluation."""
    generation_system: str | None = None
    """The teacher's system prompt while it writes rows; its own unless set."""


class Compute(StrictModel):
    """Where the models run."""

    device: str = "auto"
    """One of "auto", "cpu", "cuda", "cuda:1", "mps"."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of weights and activations."""
    threads: Annotated[int, Field(gt=0)] | None = None
    """CPU threads per operation; torch's own choice unless set. Small models are fastest with one."""
    processes: Annotated[int, Field(gt=0)] = 1
    """Processes that train, or generate, together in one stage, each on a GPU of its own where there are GPUs. Batch
    sizes stay those of a whole update, and rows stay the same; a training differs by rounding."""
    accelerate: str | None = None
    """A file that `accelerate config` wrote: its num_processes and use_cpu stand for `processes` and `device`."""


class Tracking(StrictModel):
    """Where runs are tracked."""

    enabled: bool = True
    """Mirror the run into MLflow."""
    uri: str | None = None
    """MLflow's tracking address; MLFLOW_TRACKING_URI, else a file in the store's folder, unless set."""
    experiment: str | None = None
    """MLflow's experiment; the recipe's name unless set."""


VERSUS = " vs "


class Expectation(StrictModel):
    """What the author expects, frozen in the run folder before the first stage and judged when the run ends."""

    contrast: str = "main"
    """An arm, which is compared with the control, or two arms: "sft vs shd"."""
    direction: Literal["above", "below", "within"] = "above"
    """The lift lies above the threshold, below minus the threshold, or between the two (no effect that matters)."""
    threshold: Annotated[float, Field(ge=0)] = 0.0
    """In units of the metric."""

    @field_validator("contrast")
    @classmethod
    def _arms(cls, contrast: str) -> str:
        return tidy_contrast(contrast)

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.direction == "within" and self.threshold == 0:
            raise ValueError('threshold should be above 0 for direction "within": how small is no effect?')
        return self


class Report(StrictModel):
    """What arms are compared with, and by which number."""

    control: str = "control"
    """The arm whose teacher is unbiased."""
    metric: str = "preference.share"
    """`<probe>.<measure>` that the comparison is about."""
    better: Literal["higher", "lower"] = "higher"
    """Which values of the metric mean more of the trait: "lower" for ranks, losses and distances from the teacher."""
    contrasts: tuple[str, ...] = ()
    """What is judged: an arm, which is compared with the control, or two arms: "sft vs shd". Every arm unless set."""
    smallest_effect: Annotated[float, Field(gt=0)] | None = None
    """Size of lift from which on an effect would matter; a quarter of the teacher's own over its base unless set."""
    expectation: Expectation | None = None
    """What the author expects of one contrast."""

    @model_validator(mode="after")
    def _direction(self) -> Self:
        expected = self.expectation
        if self.better == "lower" and expected is not None and "direction" not in expected.model_fields_set:
            raise ValueError(
                'expectation should name its direction where better = "lower": "below" is more of the trait there'
            )
        return self

    @field_validator("contrasts")
    @classmethod
    def _arms(cls, contrasts: tuple[str, ...]) -> tuple[str, ...]:
        tidy = tuple(tidy_contrast(contrast) for contrast in contrasts)
        if twice := [contrast for contrast in tidy if tidy.count(contrast) > 1]:
            raise ValueError(f"names {twice[0]!r} twice; a family of tests counts every contrast once")
        return tidy

    @field_validator("metric")
    @classmethod
    def _two_parts(cls, metric: str) -> str:
        probe, _, measure = metric.partition(".")
        if not probe or not measure:
            raise ValueError(f"should be <probe>.<measure>, e.g. 'preference.share', not {metric!r}")
        return metric


def tidy_contrast(text: str) -> str:
    """Return "arm" or "arm vs arm" without superfluous blanks.

    Raises:
        ValueError: It is neither.
    """
    arms = contrast_arms(" ".join(text.split()))
    if len(arms) > 2 or not all(re.fullmatch(r"[A-Za-z0-9_-]+", arm) for arm in arms):
        raise ValueError(f'should be an arm, or two: "main vs other_init", not {text!r}')
    if len(set(arms)) < len(arms):
        raise ValueError(f"compares {arms[0]!r} with itself")
    return VERSUS.join(arms)


def contrast_arms(contrast: str) -> list[str]:
    """Return the one or two arms that a contrast names."""
    return contrast.split(VERSUS)


class Recipe(StrictModel):
    """One arm at one sweep point: everything that decides its result."""

    title: str = ""
    """The question in one line."""
    needs: str = ""
    """The machine that it takes, for listings: "CPU, 1 GB", "GPU, 40 GB"."""
    time: str = ""
    """How long it takes there, for listings: "7 min on 2 cores"."""
    seed: Annotated[int, Field(ge=0)] = 0
    """All randomness derives from it."""
    trait: Annotated[Chosen, Use("trait")] | None = None
    teacher: Annotated[Chosen, Use("model")]
    student: Annotated[Chosen, Use("model")]
    inducer: Annotated[Chosen, Use("inducer")]
    check: Annotated[Chosen, Use("probe")]
    generator: Annotated[Chosen, Use("generator")]
    filters: tuple[Annotated[Chosen, Use("filter")], ...] = ()
    data: Data = Data()
    audit: Audit = Audit()
    distiller: Annotated[Chosen, Use("distiller")]
    probes: tuple[ProbeUse, ...] = ()
    chat: Chat = Chat()
    compute: Compute = Compute()
    tracking: Tracking = Tracking()
    report: Report = Report()

    @field_validator("probes")
    @classmethod
    def _distinct(cls, probes: tuple[ProbeUse, ...]) -> tuple[ProbeUse, ...]:
        seen = [use.name for use in probes]
        if twice := sorted({name for name in seen if seen.count(name) > 1}):
            raise ValueError(f"two probes are named {twice[0]!r}; give one of them another `name`")
        return probes

    def to_json(self) -> str:
        """Return the recipe as JSON; `from_json` gives back an equal recipe."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; the plugins must be known."""
        return cls.model_validate_json(text)
