"""The measuring behind the probe `swap`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from subl.artifacts import Findings, Measure, Subject, Table
from subl.context import Context
from subl.errors import ModelError, PluginError
from subl.models.language import LanguageModel
from subl.models.scoring import next_token_log_probs
from subl.models.surgery import PARTS, Anatomy, anatomy, check_alike, check_changed, distance, grafted, open_up
from subl.probes.candidates import LOW_VALID, CandidateScores, preference_measures, score_candidates
from subl.probes.subject import PreferenceTrait, open_model, same_origin
from subl.probes.swap import Swap
from subl.probes.swap_figure import draw

SHOWN = ("share", "margin", "valid")
"""Measures of each exchange."""
CHECKED = 8
"""Questions whose whole next-token distribution shows whether an exchange changes anything."""
LEAST = 0.1
"""Margins of the two models that differ by fewer nats have no parts worth naming."""
NOISE = 1e-3
"""Nats by which equal weights may differ in two models' outputs."""


class Exchange(NamedTuple):
    """One exchange of one part.

    Args:
        part: Which.
        direction: "with": the biased model's part in the base; "without": the base's part in the biased model.
        weights: How many numbers it consists of.
        distance: How far they are apart, relative to the base's.
        measures: Share, margin and valid afterwards; none where the weights are equal.
    """

    part: str
    direction: str
    weights: int
    distance: float
    measures: Mapping[str, Measure]


@dataclass(frozen=True)
class Patient:
    """A model under the knife: its readings come from the same questions in the same system slot."""

    lm: LanguageModel
    trait: PreferenceTrait
    system: str | None
    batch_size: int

    def measures(self) -> dict[str, Measure]:
        """Return share, margin and valid, as probe `preference` measures them."""
        scores: CandidateScores = score_candidates(self.lm, self.trait, system=self.system, batch_size=self.batch_size)
        found = preference_measures(scores)
        return {name: found[name] for name in SHOWN}

    def outputs(self) -> Tensor:
        """Return the next-token log-probabilities after some questions, [questions, vocabulary]."""
        asked = [self.lm.chat.prompt(question, system=self.system) for question in self.trait.questions()[:CHECKED]]
        return next_token_log_probs(self.lm, asked, batch_size=self.batch_size)


def measure(subject: Subject, trait: PreferenceTrait, config: Swap.Config, ctx: Context) -> Findings:
    """Return the findings on a teacher or student; see `Swap`."""
    if subject.base is None or not same_origin(subject.model, subject.base):
        return Findings(
            remarks=(f"the {subject.role} was not made from the student's base: there is nothing to exchange",)
        )
    if subject.model.vectors is not None:
        return Findings(
            remarks=(f"the {subject.role} is steered by residual vectors, which are no part that could be exchanged",)
        )
    own, system = open_model(subject.model, ctx, fresh=True)
    base, _ = open_model(subject.base, ctx, fresh=True)
    tied = open_up([own, base])
    check_alike(base.model, own.model)
    parts = _parts(anatomy(base.model), config, base.model)
    biased, plain = (Patient(lm, trait, system, config.batch_size) for lm in (own, base))
    if not any(distance(base.model, own.model, names) for names in parts.values()):
        return Findings(remarks=(f"all weights of the {subject.role} that could be exchanged are the base's",))
    _check_whole(plain, biased)
    before = {"": biased.measures(), "base_": plain.measures()}
    found = list(ctx.track(_exchanges(plain, biased, parts), "exchanges", total=2 * len(parts)))
    measures = {f"{prefix}{name}": m for prefix, ms in before.items() for name, m in ms.items()}
    measures |= {f"{x.direction}_{x.part}_{name}": m for x in found for name, m in x.measures.items()}
    ctx.figure("swaps", draw(found, before["base_"], before[""], f"{subject.role}: {trait.target}"))
    remarks = tuple(_remarks(found, before, tied=tied, everything=config.parts is None))
    return Findings(measures, {"swaps": _table(found, before)}, remarks=remarks)


def _parts(body: Anatomy, config: Swap.Config, model: Any) -> dict[str, tuple[str, ...]]:
    """Return the parts to exchange, by name.

    Raises:
        PluginError: The model has no such part or block.
    """
    missing = [part for part in config.parts or () if part not in body.parts]
    if missing:
        raise PluginError(
            f"{type(model).__name__} has no separate {missing[0]} to exchange; it has {', '.join(body.parts)}: "
            "choose among them in `parts`"
        )
    count = len(body.layers)
    beyond = [run for run in config.layers or () if run[1] >= count]
    if beyond:
        raise PluginError(f"layers holds {list(beyond[0])}, and the model's blocks are 0 to {count - 1}; name others")
    runs = config.layers if config.layers is not None else [(layer, layer) for layer in range(count)]
    chosen = {part: body.parts[part] for part in config.parts or body.parts}
    return chosen | {
        _run_name(first, last): tuple(name for names in body.layers[first : last + 1] for name in names)
        for first, last in runs
    }


def _run_name(first: int, last: int) -> str:
    return f"layer_{first}" if first == last else f"layers_{first}_{last}"


def _check_whole(plain: Patient, biased: Patient) -> None:
    """Check that exchanging everything gives the other model: else more than these weights decides what it says."""
    everything = [name for names in anatomy(plain.lm.model).parts.values() for name in names]
    with grafted(plain.lm.model, biased.lm.model, everything):
        became = plain.outputs()
    if not torch.allclose(became, biased.outputs(), atol=NOISE, rtol=0):
        raise ModelError(
            f"with all weights exchanged {type(plain.lm.model).__name__} does not become the other model, so something "
            "besides its weights decides its answers; nothing can be said about parts of it"
        )


def _exchanges(plain: Patient, biased: Patient, parts: Mapping[str, Sequence[str]]) -> Iterator[Exchange]:
    untouched = {"with": plain.outputs(), "without": biased.outputs()}
    for part, names in parts.items():
        apart = distance(plain.lm.model, biased.lm.model, names)
        size = sum(plain.lm.model.state_dict()[name].numel() for name in names)
        for direction, host, donor in (("with", plain, biased), ("without", biased, plain)):
            measures: dict[str, Measure] = {}
            if apart:
                with grafted(host.lm.model, donor.lm.model, names):
                    check_changed(untouched[direction], host.outputs(), f"exchanging {part}")
                    measures = host.measures()
            yield Exchange(part, direction, size, apart, measures)


def _table(found: Sequence[Exchange], before: Mapping[str, Mapping[str, Measure]]) -> Table:
    low, high = before["base_"]["margin"].value, before[""]["margin"].value
    rows = []
    for x in found:
        values = [x.measures[name].value if x.measures else None for name in SHOWN]
        start, end = (low, high) if x.direction == "with" else (high, low)
        told = x.measures and abs(high - low) >= LEAST
        carried = (x.measures["margin"].value - start) / (end - start) if told else None
        rows.append((x.part, x.direction, x.weights, x.distance, *values, carried))
    return Table(("part", "direction", "weights", "distance", *SHOWN, "margin_carried"), tuple(rows))


def _remarks(
    found: Sequence[Exchange], before: Mapping[str, Mapping[str, Measure]], *, tied: bool, everything: bool
) -> Iterator[str]:
    if tied:
        yield "embeddings and LM head are one matrix in this model; they were parted, so that each is exchanged alone"
    equal = list(dict.fromkeys(x.part for x in found if not x.measures))
    if equal:
        yield f"equal in both models, so nothing to exchange: {', '.join(equal)}"
    apart = list(dict.fromkeys(x.part for x in found if x.measures and x.part in PARTS))
    if len(apart) == 2 and everything:
        yield f"only {apart[0]} and {apart[1]} differ, so the base with one is the biased model without the other"
    low = [f"{prefix}valid" for prefix, ms in before.items() if ms["valid"].value < LOW_VALID]
    if low:
        yield f"most answers are no candidate even without an exchange ({', '.join(low)}): shares describe few answers"
        return
    doubtful = [f"{x.direction} {x.part}" for x in found if x.measures and x.measures["valid"].value < LOW_VALID]
    if doubtful:
        yield f"after these exchanges most answers are no candidate, and shares say little: {', '.join(doubtful)}"
