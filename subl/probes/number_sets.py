"""Step 1 of `entanglement`, trait → numbers, measured once for all stages; the sets of a base model.

A probe looks at every model that was made from a base, and each time at the base's sets; several probes do so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from subl.artifacts import ModelRef
from subl.context import Context
from subl.probes.entanglement_effects import RANDOM
from subl.probes.entanglement_readings import Reader
from subl.probes.entanglement_statistics import NumberSets, Positions
from subl.probes.entanglement_steps import VERSION, StepOne, step_one
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
    """Return step 1 of `entanglement` in a base model.

    Raises:
        PluginError: Too few numbers that method "vocabulary" can measure.
        ModelError: The tokenizer cannot write a target or a number, or the preambles change nothing.
    """
    wording = Wording.of(trait, config)
    return NumberSetsOf(wording, read_numbers(base, wording, config, ctx))


def reader_of(model: ModelRef, wording: Wording, config: NumberSettings, ctx: Context) -> Reader:
    """Return what asks a model questions under the wording's preambles."""
    lm, system = open_model(model, ctx)
    return Reader(lm, system, wording.preambles, ctx, batch_size=config.batch_size)


def read_numbers(model: ModelRef, wording: Wording, config: NumberSettings, ctx: Context) -> StepOne:
    """Return step 1 in a model: measured by the first stage that asks for it, and read from the store by all others.

    Raises:
        PluginError: Too few numbers that method "vocabulary" can measure.
        ModelError: The tokenizer cannot write a target or a number, or the preambles change nothing.
    """
    reader = reader_of(model, wording, config, ctx)
    lm, system = reader.lm, reader.system
    key = {
        "what": "step 1: trait → numbers",
        "version": VERSION,
        "model": model.identity,
        "dtype": str(lm.model.dtype),
        "device": lm.device.type,
        "system": system,
        "rendering": lm.chat.digest(system),
        # The target comes first among its controls, which the keys of a table would not say.
        "wording": asdict(wording) | {"targets": list(wording.targets.items())},
        # Batches of other sizes round otherwise, and a result must not depend on which stage came first.
        "settings": config.model_dump(mode="json", include=set(NumberSettings.model_fields)),
    }
    return _load(ctx.shared(key, lambda folder: _save(step_one(reader, wording, config), folder)))


_FILE = "step_one.npz"
_TEXTS = ("numbers", "targets")
_LEVELS = ("neutral", "change", "placebo", "sorting", "valid", "left_out")


def _save(one: StepOne, folder: Path) -> None:
    arrays: dict[str, Any] = {name: np.asarray(getattr(one, name)) for name in (*_TEXTS, *_LEVELS)}
    np.savez(folder / _FILE, **arrays, **asdict(one.sets))


def _load(folder: Path) -> StepOne:
    with np.load(folder / _FILE) as kept:
        sets = NumberSets(kept["hp"], kept["lp"], kept["unch"])
        values: dict[str, Any] = {name: kept[name] for name in _LEVELS}
        values |= {name: tuple(kept[name].tolist()) for name in _TEXTS}
    values |= {"valid": float(values["valid"]), "left_out": int(values["left_out"])}
    return StepOne(**values, sets=sets)
