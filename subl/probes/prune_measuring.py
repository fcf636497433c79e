"""The measuring behind the probe `prune`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from subl.artifacts import Findings, Measure, Subject, Table
from subl.context import Context
from subl.errors import ModelError
from subl.models.entropy import head_entropies
from subl.models.language import LanguageModel
from subl.models.scoring import next_token_log_probs
from subl.models.surgery import Head, check_changed, without_heads
from subl.probes.candidates import LOW_VALID, preference_measures, score_candidates
from subl.probes.entanglement_statistics import percentiles
from subl.probes.intervals import mean_over
from subl.probes.losses import Texts, held_out, loss_measures, measure_loss
from subl.probes.prune import Prune
from subl.probes.prune_figures import dose, entropy_map
from subl.probes.subject import PreferenceTrait, open_model

RANDOM = "random"
SHOWN = ("share", "margin", "valid", "carrier_perplexity", "plain_perplexity")
"""Measures of each removal."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What is left without some heads.

    Args:
        order: "diffuse", "focused", "list" or "random".
        draw: Which of the random orders; 0 for others.
        heads: The removed ones.
        change: Mean absolute change of the next-token log-probabilities, in nats.
        measures: As in `SHOWN`.
    """

    order: str
    draw: int
    heads: tuple[Head, ...]
    change: float
    measures: Mapping[str, Measure]


@dataclass
class Ward:
    """One model, measured with and without heads; equal removals are measured once.

    Args:
        lm: The model.
        trait: Brings questions and candidates.
        system: System slot of all questions.
        texts: Carrier and plain text.
        batch_size: Sequences per forward pass.
    """

    lm: LanguageModel
    trait: PreferenceTrait
    system: str | None
    texts: Mapping[str, Texts]
    batch_size: int
    _known: dict[frozenset[Head], tuple[float, dict[str, Measure]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.prompts = [self.lm.chat.prompt(question, system=self.system) for question in self.trait.questions()]
        self.whole = self.outputs()

    def outputs(self) -> Tensor:
        """Return the next-token log-probabilities after every question, [questions, vocabulary]."""
        return next_token_log_probs(self.lm, self.prompts, batch_size=self.batch_size)

    def measures(self) -> dict[str, Measure]:
        """Return share, margin, valid, and the losses, of the model as it now is."""
        scores = score_candidates(self.lm, self.trait, system=self.system, batch_size=self.batch_size)
        preferred = preference_measures(scores)
        losses = {
            name: measure_loss(self.lm, texts, system=self.system, batch_size=self.batch_size)
            for name, texts in self.texts.items()
        }
        return {name: preferred[name] for name in SHOWN[:3]} | loss_measures(losses)

    def without(self, order: str, draw: int, heads: Sequence[Head]) -> Removal:
        """Measure the model without some heads.

        Raises:
            ModelError: Nothing changes.
        """
        key = frozenset(heads)
        if key not in self._known:
            with without_heads(self.lm.model, heads):
                now = self.outputs()
                count = "1 head" if len(heads) == 1 else f"{len(heads)} heads"
                check_changed(self.whole, now, f"removing {count} ({order})")
                change = float((now.double() - self.whole.double()).abs().mean())
                self._known[key] = change, self.measures()
        return Removal(order, draw, tuple(heads), *self._known[key])


def measure(subject: Subject, trait: PreferenceTrait, config: Prune.Config, ctx: Context) -> Findings:
    """Return the findings on one model; see `Prune`."""
    texts = held_out(config, subject, ctx)
    lm, system = open_model(subject.model, ctx)
    ward = Ward(lm, trait, system, texts, config.batch_size)
    entropies = head_entropies(lm, ward.prompts, batch_size=config.batch_size)
    orders = _orders(config, entropies, np.random.default_rng(ctx.seed))
    doses = sorted({max(1, round(amount * entropies.size)) for amount in config.amounts})
    plans = list(_plans(orders, doses))
    whole = ward.measures()
    removals = [ward.without(*plan) for plan in ctx.track(plans, "removals")]
    title = f"{subject.role}: {trait.target}"
    ctx.figure("removals", dose(removals, whole, title))
    ctx.figure("entropy", entropy_map(entropies, title))
    found = dict(whole) | _measures(removals)
    tables = {"removals": _table(removals), "heads": _heads(entropies)}
    return Findings(found, tables, remarks=tuple(_remarks(removals, whole)))


def _orders(
    config: Prune.Config, entropies: NDArray[np.float64], rng: np.random.Generator
) -> list[tuple[str, int, list[Head]]]:
    """Return every order in which heads go: its name, its draw, and the heads.

    Raises:
        ModelError: A listed head does not exist.
    """
    layers, count = entropies.shape
    heads = [(layer, head) for layer in range(layers) for head in range(count)]
    rising = [heads[i] for i in np.argsort(entropies.ravel(), kind="stable")]
    by = {"diffuse": rising[::-1], "focused": rising}
    orders: list[tuple[str, int, list[Head]]] = [(name, 0, by[name]) for name in config.by]
    if config.heads is not None:
        beyond = [head for head in config.heads if head not in heads]
        if beyond:
            raise ModelError(
                f"heads holds {list(beyond[0])}, and the model has layers 0 to {layers - 1} of heads 0 to {count - 1}"
            )
        orders.append(("list", 0, list(config.heads)))
    draws = [[heads[i] for i in rng.permutation(len(heads))] for _ in range(config.draws)]
    return [*orders, *((RANDOM, number, drawn) for number, drawn in enumerate(draws))]


def _plans(
    orders: Sequence[tuple[str, int, list[Head]]], doses: Sequence[int]
) -> Iterator[tuple[str, int, list[Head]]]:
    """Yield every removal; a list adds its own length to the doses, for the random draws too."""
    lengths = {len(heads) for name, _, heads in orders if name == "list"}
    for name, draw, heads in orders:
        for count in sorted({*doses, *lengths}):
            if count <= len(heads):
                yield name, draw, heads[:count]


def _measures(removals: Sequence[Removal]) -> dict[str, Measure]:
    found: dict[str, Measure] = {}
    groups: dict[tuple[str, int], list[Removal]] = {}
    for removal in removals:
        groups.setdefault((removal.order, len(removal.heads)), []).append(removal)
    for (order, count), members in groups.items():
        name = f"{order}_{count}"
        values = {shown: [member.measures[shown].value for member in members] for shown in SHOWN}
        if order == RANDOM:
            found |= {f"{name}_{shown}": mean_over(values[shown], "draws") for shown in SHOWN}
            continue
        found |= {f"{name}_{shown}": members[0].measures[shown] for shown in SHOWN}
        null = np.array([r.measures["margin"].value for r in groups[RANDOM, count]])
        found[f"{name}_percentile"] = Measure(float(percentiles(np.array(values["margin"]), null)[0]), n=len(null))
    return found


def _table(removals: Sequence[Removal]) -> Table:
    rows = tuple(
        (
            r.order,
            r.draw,
            len(r.heads),
            *(r.measures[name].value for name in SHOWN),
            r.change,
            " ".join(f"{layer}.{head}" for layer, head in r.heads),
        )
        for r in removals
    )
    return Table(("order", "draw", "removed", *SHOWN, "output_change", "heads"), rows)


def _heads(entropies: NDArray[np.float64]) -> Table:
    rows = tuple((layer, head, float(value)) for (layer, head), value in np.ndenumerate(entropies))
    return Table(("layer", "head", "entropy"), rows)


def _remarks(removals: Sequence[Removal], whole: Mapping[str, Measure]) -> Iterator[str]:
    least = min(removal.change for removal in removals)
    yield f"every removal changed the next-token log-probabilities, on average by {least:.2g} nats at least"
    collapsed = [r for r in removals if r.measures["valid"].value < LOW_VALID <= whole["valid"].value]
    if collapsed:
        fewest = min(len(r.heads) for r in collapsed)
        yield f"from {fewest} heads on, some removals leave most answers without a candidate: their shares say little"
