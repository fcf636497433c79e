"""Activations of several models on the same prompts, and how they differ from those of a base."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from subl.artifacts import ModelRef
from subl.context import Context
from subl.errors import ModelError, PluginError
from subl.models.language import LanguageModel
from subl.models.states import every, last, mean, residuals
from subl.probes.candidates import score_candidates
from subl.probes.drift import Drift
from subl.probes.drift_statistics import over_blocks
from subl.probes.entanglement_statistics import Floats
from subl.probes.subject import PreferenceTrait, open_model


@dataclass(frozen=True, slots=True)
class Moved:
    """How one model's activations differ from its base's.

    Args:
        shifts: [layers + 1, prompts, d]; the first one is the embeddings' output.
        share: The target's share among the candidates in the model's answers.
    """

    shifts: Floats
    share: float


@dataclass(frozen=True, slots=True)
class Compared:
    """A student, or a state of it, against the teacher.

    Args:
        cosines: [layers + 1].
        along: Projections, [layers + 1, prompts].
        share: The target's share among the candidates.
    """

    cosines: Floats
    along: Floats
    share: float

    @property
    def alignment(self) -> float:
        """Mean over the blocks in which both moved; NaN without any."""
        return float(over_blocks(self.cosines))

    @property
    def projection(self) -> float:
        """Mean over the blocks in which the teacher moved, and over prompts."""
        return float(over_blocks(self.along.T).mean())


@dataclass(frozen=True, slots=True)
class Evidence:
    """A student beside the control's, against their teacher; by name: "student", "control", and "beyond" for student −
    control's student.

    Args:
        teacher: The teacher.
        moved: The students.
        compared: The students.
        shifts: Mean shifts, [layers + 1, d], "beyond" included.
        cosines: Their cosines with the teacher's mean shift, [layers + 1].
        nulls: Their cosines with random directions, [draws, layers + 1]; NaN where they have none with the teacher.
        spread: The students' alignments in bootstrap samples, [resamples, layers + 1].
        apart: The difference of these; None without a control.
    """

    teacher: Moved
    moved: Mapping[str, Moved]
    compared: Mapping[str, Compared]
    shifts: Mapping[str, Floats]
    cosines: Mapping[str, Floats]
    nulls: Mapping[str, Floats]
    spread: Mapping[str, Floats]
    apart: Floats | None

    @property
    def direction(self) -> Floats:
        """The teacher's mean shift, [layers + 1, d]."""
        mean_shift: Floats = self.teacher.shifts.mean(axis=1)
        return mean_shift


class Activations:
    """Reads the activations of models on the same prompts, each in its own chat rendering."""

    def __init__(self, trait: PreferenceTrait, config: Drift.Config, ctx: Context) -> None:
        self._trait = trait
        self._config = config
        self._ctx = ctx
        prompts = trait.questions() if config.prompts == "questions" else ctx.generator.prompts(config.count, 0)
        self._prompts = tuple(prompts)[: config.count]
        if len(self._prompts) < 2:
            raise PluginError(
                'drift compares shifts over prompts and needs at least 2 of them; use prompts = "carrier", or raise '
                "[trait] questions"
            )

    def read(self, model: ModelRef) -> Floats:
        """Return what is read of every prompt: [layers + 1, prompts, d]."""
        lm, tokens = self._opened(model)
        where = {"last": last, "mean": mean}[self._config.tokens]
        values: Floats = residuals(lm, tokens, batch_size=self._config.batch_size, read=where).double().numpy()
        return values

    def sample(self, model: ModelRef, rng: np.random.Generator) -> Floats:
        """Return the activations of random tokens of the prompts: [layers + 1, tokens, d]."""
        lm, tokens = self._opened(model)
        values: Floats = residuals(lm, tokens, batch_size=self._config.batch_size, read=every).numpy()
        count = values.shape[1]
        return values[:, np.sort(rng.choice(count, min(count, self._config.sample), replace=False))]

    def moved(self, model: ModelRef, base: Floats, *, share: bool = True) -> Moved:
        """Return a model's shift from what its base's activations are."""
        after = self.read(model)
        if after.shape != base.shape:
            raise ModelError(
                f"one model has {len(base) - 1} layers of width {base.shape[2]}, the other {len(after) - 1} of width "
                f"{after.shape[2]}: their activations cannot be compared; use probes 'attention' or 'preference'"
            )
        return Moved(after - base, self.share(model) if share else math.nan)

    def share(self, model: ModelRef) -> float:
        """Return the target's share among the candidates."""
        lm, system = open_model(model, self._ctx)
        scores = score_candidates(lm, self._trait, system=system, batch_size=self._config.batch_size)
        return float(scores.shares()[scores.target])

    def _opened(self, model: ModelRef) -> tuple[LanguageModel, list[list[int]]]:
        lm, system = open_model(model, self._ctx)
        return lm, [lm.chat.prompt(prompt, system=system) for prompt in self._prompts]
