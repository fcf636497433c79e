"""The measuring behind the probe `lens`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subl.artifacts import Findings, Measure, ModelRef, Subject, Table
from subl.context import Context
from subl.probes.depth import place_name
from subl.probes.entanglement_effects import RANDOM
from subl.probes.entanglement_statistics import Floats, Positions, difference
from subl.probes.entanglement_wording import controls_of
from subl.probes.intervals import mean_over
from subl.probes.lens import Lens
from subl.probes.lens_figures import contexts_figure, depth_figure, heads_figure, parts_figure
from subl.probes.lens_readings import Depth, Glass, Parts, Tokens
from subl.probes.lens_statistics import Rise, half_way, rise
from subl.probes.number_sets import NumberSetsOf, sets_of
from subl.probes.subject import PreferenceTrait, open_model

NAMED = ("HP", "LP", RANDOM)
"""Sets whose numbers preambles name."""
STEERING = "steering"
"""The part of a steered model that is no part of its base."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read from one model.

    Args:
        depth: By layer, on the trait's questions.
        parts: By what wrote it, on the same.
    """

    depth: Depth
    parts: Parts


@dataclass(frozen=True, slots=True)
class Everything:
    """All that the findings are made of.

    Args:
        own: The model.
        base: Its base; None for a base itself.
        rising: Where the margin, or its change from the base, has its largest step.
        contexts: Set → change of the margin under preambles about each of its numbers, [layers + 1, numbers].
    """

    own: Seen
    base: Seen | None
    rising: Rise
    contexts: Mapping[str, Floats]

    @property
    def curve(self) -> Floats:
        """The margin, or its change from the base: [layers + 1, questions]."""
        return self.own.depth.margin - (self.base.depth.margin if self.base else 0)


def measure(subject: Subject, trait: PreferenceTrait, config: Lens.Config, ctx: Context) -> Findings:
    """Return the findings on one model; see `Lens`."""
    assert subject.base is not None
    rng = np.random.default_rng(ctx.seed)
    sets = sets_of(subject.base, trait, config, ctx)
    drawn = sets.drawn(rng)
    base = None if subject.role == "base" else _seen(_glass(subject.base, trait, sets, drawn, config, ctx), trait, ctx)
    glass = _glass(subject.model, trait, sets, drawn, config, ctx)
    own = _seen(glass, trait, ctx)
    contexts = _contexts(glass, sets, drawn, ctx)
    curve = own.depth.margin - (base.depth.margin if base else 0)
    everything = Everything(own, base, rise(curve, resamples=config.resamples, rng=rng), contexts)
    found = _measures(everything)
    title = f"{subject.role}: {trait.target}"
    ctx.figure("depth", depth_figure(own.depth, base.depth if base else None, everything.rising, title))
    ctx.figure("contexts", contexts_figure(contexts, own.depth.lift, title))
    ctx.figure("parts", parts_figure(own.parts, base.parts if base else None, title))
    ctx.figure("heads", heads_figure(own.parts, base.parts if base else None, title))
    sentence = _sentence(found, everything, trait.target)
    ctx.log(f"{subject.role}: {sentence}")
    return Findings(found, _tables(everything), remarks=(sentence, *_remarks(everything)))


def _glass(
    model: ModelRef,
    trait: PreferenceTrait,
    sets: NumberSetsOf,
    drawn: Mapping[str, Positions],
    config: Lens.Config,
    ctx: Context,
) -> Glass:
    lm, system = open_model(model, ctx)
    high, rest = ([sets.one.numbers[i] for i in drawn[name]] for name in ("HP", RANDOM))
    tokens = Tokens.of(lm, trait, controls_of(trait), (high, rest), system)
    return Glass(lm, tokens, lm.chat.prompt(trait.questions()[0], system=system), batch_size=config.batch_size)


def _system(glass: Glass, ctx: Context) -> str | None:
    own = glass.lm.ref.system
    return own if own is not None else ctx.system


def _seen(glass: Glass, trait: PreferenceTrait, ctx: Context) -> Seen:
    system = _system(glass, ctx)
    prompts = [glass.lm.chat.prompt(question, system=system) for question in trait.questions()]
    return Seen(glass.depth(prompts), glass.parts(prompts))


def _contexts(glass: Glass, sets: NumberSetsOf, drawn: Mapping[str, Positions], ctx: Context) -> dict[str, Floats]:
    """Return what preambles about the numbers of each set do to the margin, by place and number."""
    system, wording = _system(glass, ctx), sets.wording

    def margins(slots: Sequence[str | None]) -> Floats:
        asked = [glass.lm.chat.prompt(q, system=slot) for slot in slots for q in wording.trait_questions]
        return glass.depth(asked).margin

    neutral = margins([system]).mean(axis=1, keepdims=True)
    found = {}
    for name in NAMED:
        numbers = [sets.one.numbers[i] for i in drawn[name]]
        loved = [
            wording.preambles(wording.numbers([number]), system) for number in ctx.track(numbers, f"{name} contexts")
        ]
        read = margins([slot for slots in loved for slot in slots])
        found[name] = read.reshape(len(read), len(numbers), -1).mean(axis=2) - neutral
    return found


def _measures(everything: Everything) -> dict[str, Measure]:
    own, base, of = everything.own, everything.base, "questions"
    found = {
        "margin": mean_over(own.depth.margin[-1], of),
        "log_prob": mean_over(own.depth.log_prob[-1], of),
        "rise_in_layer": everything.rising.measure(),
        "rise_share": Measure(everything.rising.share, n=everything.rising.questions),
        "layers_to_half": Measure(half_way(everything.curve.mean(axis=1))),
    }
    if base is not None:
        found["margin_change"] = mean_over(everything.curve[-1], of)
    for name, totals in _totals(own.parts).items():
        if name == STEERING and not own.parts.steering.any():
            continue
        found[f"{name}_total"] = mean_over(totals, of)
        if base is not None:
            found[f"{name}_change"] = mean_over(totals - _totals(base.parts)[name], of)
    for name, margins in everything.contexts.items():
        found[f"{name.lower()}_margin"] = mean_over(margins[-1], "numbers")
    high, rest = everything.contexts["HP"], everything.contexts[RANDOM]
    found["hp_minus_random"] = difference(high[-1], rest[-1], "numbers")
    steps = np.diff(high.mean(axis=1) - rest.mean(axis=1))
    found["hp_rise_in_layer"] = Measure(float(np.abs(steps).argmax()))
    if own.depth.lift is not None:
        found["hp_token_lift"] = mean_over(own.depth.lift[-1], of)
        if base is not None and base.depth.lift is not None:
            found["hp_token_lift_change"] = mean_over(own.depth.lift[-1] - base.depth.lift[-1], of)
    return found


def _totals(parts: Parts) -> dict[str, Floats]:
    layered = {"attention": parts.attention, "mlp": parts.mlp, STEERING: parts.steering}
    return {"embedding": parts.embedding, **{name: values.sum(axis=0) for name, values in layered.items()}}


def _tables(everything: Everything) -> dict[str, Table]:
    own, base = everything.own, everything.base
    depth = []
    for place, margins in enumerate(own.depth.margin):
        found = mean_over(margins, "questions")
        row = (place_name(place), found.value, found.low, found.high, float(own.depth.log_prob[place].mean()))
        change = mean_over(everything.curve[place], "questions") if base else None
        lift = None if own.depth.lift is None else float(own.depth.lift[place].mean())
        depth.append((*row, *((change.value, change.low, change.high) if change else (None, None, None)), lift))
    contexts = [
        (place_name(place), name, found.value, found.low, found.high)
        for name, margins in everything.contexts.items()
        for place, found in enumerate(mean_over(row, "numbers") for row in margins)
    ]
    columns = ("contribution", "low", "high", "base", "change", "change_low", "change_high")
    before = {} if base is None else _written(base.parts)
    return {
        "depth": Table(
            (
                *("place", "margin", "low", "high", "log_prob"),
                *("change", "change_low", "change_high", "hp_token_lift"),
            ),
            tuple(depth),
        ),
        "contexts": Table(("place", "set", "margin_change", "low", "high"), tuple(contexts)),
        "parts": Table(
            ("part", "layer", *columns),
            tuple(
                (
                    part,
                    layer,
                    *_both(values, None if base is None else before.get((part, layer), np.zeros_like(values))),
                )
                for (part, layer), values in _written(own.parts).items()
            ),
        ),
        "heads": Table(("layer", "head", *columns), tuple(_heads(own.parts, base.parts if base else None))),
    }


def _written(parts: Parts) -> dict[tuple[str, int | None], Floats]:
    """Return what each part writes, [questions], by part and layer; the embeddings are in none."""
    found: dict[tuple[str, int | None], Floats] = {("embedding", None): parts.embedding}
    for layer, (attention, mlp) in enumerate(zip(parts.attention, parts.mlp, strict=True)):
        found |= {("attention", layer): attention, ("mlp", layer): mlp}
    steered = np.flatnonzero(parts.steering.any(axis=1))
    return found | {(STEERING, int(layer)): parts.steering[layer] for layer in steered}


def _heads(own: Parts, base: Parts | None) -> Iterator[tuple[object, ...]]:
    for layer, values in enumerate(own.heads):
        for head in range(values.shape[1]):
            yield layer, head, *_both(values[:, head], None if base is None else base.heads[layer, :, head])


def _both(own: Floats, base: Floats | None) -> tuple[float | None, ...]:
    found = mean_over(own, "questions")
    if base is None:
        return found.value, found.low, found.high, None, None, None, None
    change = mean_over(own - base, "questions")
    return found.value, found.low, found.high, float(base.mean()), change.value, change.low, change.high


def _sentence(found: Mapping[str, Measure], everything: Everything, target: str) -> str:
    of = "its change from the base" if everything.base else "the margin"
    gap, where = found["hp_minus_random"], everything.rising
    end = found["margin_change" if everything.base else "margin"]
    return (
        f"{target}'s margin over its controls ends at {found['margin'].value:+.2f}; {of} ends at {end.value:+.2f} and "
        f"makes its largest step in layer {where.layer} of 0 to {len(everything.curve) - 2} (bootstrap {where.low:.0f} "
        f"to {where.high:.0f}; {where.share:.0%} of questions); preambles about HP numbers change it by "
        f"{found['hp_margin'].value:+.2f}, about random numbers by {found['random_margin'].value:+.2f} (difference "
        f"{gap.value:+.2f}{'' if gap.low is None else f' [{gap.low:+.2f}, {gap.high:+.2f}]'})"
    )


def _remarks(everything: Everything) -> Iterator[str]:
    if everything.base is not None and not everything.curve.any():
        yield "nothing changed from the base anywhere, so the layer of the largest step means nothing"
    if everything.own.depth.lift is None:
        yield "some of the numbers are several tokens, so the lens does not follow them (hp_token_lift)"
