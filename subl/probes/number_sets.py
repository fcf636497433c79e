"""HP, LP and UNCH of a base model, for probes that look at them in the models made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from subl.artifacts import ModelRef
from subl.context import Context
from subl.probes.entanglement_effects import RANDOM
from subl.probes.entanglement_readings import Reader
from subl.probes.entanglement_statistics import Positions
from subl.probes.entanglement_steps import StepOne, step_one
from subl.probes.entanglement_wording import Wording
from subl.probes.number_settings import NumberSettings
from subl.probes.subject import PreferenceTrait, open_model


@dataclass(frozen=True, slots=True)
class NumberSetsOf:
    """What a base model says about numbers.

    Args:
        wording: Questions and preambles.
        one: Step 1, trait → numbers.
    """

    wording: Wording
    one: StepOne

    def drawn(self, rng: np.random.Generator) -> Mapping[str, Positions]:
        """Return HP, LP, UNCH, and as many random numbers that are in none of them."""
        sets = self.one.sets.named()
        rest = np.setdiff1d(np.arange(len(self.one.numbers)), np.concatenate(list(sets.values())))
        chosen = rng.choice(rest, min(len(rest), len(sets["HP"])), replace=False)
        return {**sets, RANDOM: np.sort(chosen)}

    def set_names(self) -> list[str]:
        """Return the set of every number, "" for those in none."""
        names = {int(i): name for name, positions in self.one.sets.named().items() for i in positions}
        return [names.get(i, "") for i in range(len(self.one.numbers))]


def sets_of(base: ModelRef, trait: PreferenceTrait, config: NumberSettings, ctx: Context) -> NumberSetsOf:
    """Measure step 1 of `entanglement` in a base model.

    Raises:
        PluginError: Too few numbers that method "vocabulary" can measure.
        ModelError: The tokenizer cannot write a target or a number, or the preambles change nothing.
    """
    wording = Wording.of(trait, config)
    lm, system = open_model(base, ctx)
    reader = Reader(lm, system, wording.preambles, ctx, batch_size=config.batch_size)
    return NumberSetsOf(wording, step_one(reader, wording, config))
