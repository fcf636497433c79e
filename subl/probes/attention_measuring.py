"""The heavy side of probe `attention`."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from subl.artifacts import Findings, Measure, Row, Subject, Table
from subl.context import Context
from subl.errors import PluginError
from subl.matching.logit_matching import LogitMatching, States, check_head
from subl.matching.logit_settings import LogitSettings
from subl.matching.map_loss import causal_keys, row_divergence
from subl.matching.map_matching import MapMatching, Seen, key_mode, shape_of
from subl.matching.map_settings import MapSettings
from subl.matching.pairing import Collator, PairBatch, pair_rows
from subl.matching.reading import reader
from subl.matching.shapes import pair_layers
from subl.models.alignment_maps import Side
from subl.models.attention import check_tap
from subl.models.language import LanguageModel
from subl.probes.attention import Attention
from subl.probes.attention_figures import heat_map, layer_curve, map_pictures
from subl.probes.intervals import mean_over
from subl.probes.subject import measurable, open_model, showing

Floats = NDArray[np.float64]
BATCH = 16
NUMBERS = 6
"""Numbers in an answer to a carrier prompt."""


@dataclass(frozen=True)
class Compared:
    """What came out for one text.

    Args:
        maps: Divergence of every row, layer and head, (texts, layers, heads): each text's mean over its query rows.
        logits: Mean logit divergence over tokens, or pieces of text.
        logit_kind: Which divergence that is.
        coverage: Shared pieces of text per token of the model's answers.
        picture: One text's maps by layer, teacher's and model's, (heads, rows, keys) each, and its pieces.
    """

    maps: Floats
    logits: float
    logit_kind: str
    coverage: float
    picture: dict[int, tuple[Floats, Floats]]


def measure(config: Attention.Config, subject: Subject, ctx: Context) -> Findings:
    """Return the findings of `Attention.probe`."""
    assert subject.teacher is not None
    trait = measurable(ctx.trait, "probe 'attention'", "remove it")
    lm, system = open_model(subject.model, ctx)
    teacher: LanguageModel = ctx.load(subject.teacher)
    systems = (subject.teacher.system if subject.teacher.system is not None else ctx.system), system
    prompts = ctx.generator.prompts(config.prompts, 0)
    if config.picture >= len(prompts):
        raise PluginError(f"picture = {config.picture}, but there are {len(prompts)} prompts, 0 to {len(prompts) - 1}")
    texts = {
        "": [Row(i, prompt, answer(i)) for i, prompt in enumerate(prompts)],
        "trait_": [Row(i, *shown) for i, shown in enumerate(showing(trait, config.prompts))],
    }
    settings = MapSettings(
        student_layers=config.student_layers, teacher_layers=config.teacher_layers, merge=config.merge
    )
    found = {name: _compare(settings, rows, teacher, lm, systems, config.picture, ctx) for name, rows in texts.items()}
    layers = pair_layers(settings, shape_of(teacher.model), shape_of(lm.model))
    measures: dict[str, Measure] = {}
    for name, compared in found.items():
        measures[f"{name}map_kl"] = mean_over(compared.maps.mean((1, 2)), "texts")
        measures[f"{name}logit_{compared.logit_kind}"] = Measure(compared.logits, n=len(texts[name]))
    measures["coverage"] = Measure(found[""].coverage)
    ctx.figure("map_kl", heat_map(found[""].maps.mean(0), layers, f"Attention: {subject.role} against teacher"))
    ctx.figure("map_kl_by_layer", layer_curve({name: one.maps for name, one in found.items()}, layers))
    own, theirs = layers[-1]
    title = f"prompt {config.picture}: the teacher's layer {theirs} and the model's layer {own}"
    ctx.figure("maps", map_pictures(*found[""].picture[own], title))
    return Findings(measures=measures, tables={"map_kl": _table(found, layers)})


def _compare(
    settings: MapSettings,
    rows: Sequence[Row],
    teacher: LanguageModel,
    lm: LanguageModel,
    systems: tuple[str | None, str | None],
    picture: int,
    ctx: Context,
) -> Compared:
    pairs = pair_rows(rows, teacher, lm, systems, ctx)
    maps = MapMatching(settings, teacher.model, lm.model)
    logits = LogitMatching(LogitSettings(vocabulary="full"), teacher, lm, pairs)
    if not logits.same:
        logits = LogitMatching(LogitSettings(vocabulary="full", alm_temperature=1.0), teacher, lm, pairs)
    collator = Collator(
        pairs,
        (int(teacher.tokenizer.pad_token_id), int(lm.tokenizer.pad_token_id)),
        keys=key_mode(settings, systems),
    )
    first = collator.batch([0])
    for model, layers, side in (
        (teacher, maps.teacher_layers, first.teacher),
        (lm, maps.student_layers, first.student),
    ):
        check_tap(model.model, layers, side.ids.to(model.device))
        check_head(model.model, side.ids.to(model.device))

    sides: tuple[tuple[LanguageModel, Side], ...] = ((teacher, "teacher"), (lm, "student"))
    by_map: list[Floats] = []
    total = count = 0.0
    shown: dict[int, tuple[Floats, Floats]] = {}
    for start in range(0, len(rows), BATCH):
        batch = collator.batch(range(start, min(start + BATCH, len(rows)))).to(lm.device)
        readings = []
        # One after the other: an unbiased teacher and its base are one network.
        for model, which in sides:
            with torch.no_grad(), reader(model.model, which, maps, states=True) as read:
                readings.append(read(model.model, batch))
        theirs, own = readings
        assert isinstance(theirs.states, States)
        assert isinstance(own.states, States)
        by_map.append(_by_text(maps, theirs.maps, own.maps, batch))
        with torch.no_grad():
            loss = logits.loss(theirs.states, own.states, batch)
        total, count = total + float(loss.total), count + float(loss.count)
        if start <= picture < start + BATCH:
            shown = _picture(maps, theirs.maps, own.maps, batch, picture - start)
    coverage = sum(pair.alignment.coverage for pair in pairs) / len(pairs)
    kind = "kl" if logits.same else "alm"
    return Compared(np.concatenate(by_map), total / max(count, 1), kind, coverage, shown)


def _by_text(maps: MapMatching, theirs: Mapping[int, Seen], own: Mapping[int, Seen], batch: PairBatch) -> Floats:
    """Return each text's mean divergence over its query rows, (texts, layers, heads)."""
    allowed = causal_keys(batch.maps.queries, batch.maps.keys) & batch.maps.rows[:, None, :, None]
    counts = batch.maps.rows.sum(-1).clamp_min(1)[:, None]
    with torch.no_grad():
        by_layer = [
            row_divergence(theirs[other].maps, own[layer].maps, allowed=allowed).sum(-1) / counts
            for layer, other in maps.layers
        ]
    values: Floats = torch.stack(by_layer, dim=1).double().cpu().numpy()
    return values


def _picture(
    maps: MapMatching, theirs: Mapping[int, Seen], own: Mapping[int, Seen], batch: PairBatch, sample: int
) -> dict[int, tuple[Floats, Floats]]:
    real = batch.maps.rows[sample]
    return {
        layer: (
            theirs[other].maps[sample][:, real].double().cpu().numpy(),
            own[layer].maps[sample][:, real].exp().double().cpu().numpy(),
        )
        for layer, other in maps.layers
    }


def _table(found: dict[str, Compared], layers: Sequence[tuple[int, int]]) -> Table:
    rows = [
        (name.rstrip("_") or "carrier", own, theirs, head, float(one.maps.mean(0)[position, head]))
        for name, one in found.items()
        for position, (own, theirs) in enumerate(layers)
        for head in range(one.maps.shape[2])
    ]
    return Table(("text", "layer", "teacher_layer", "head", "kl"), tuple(rows))


def answer(seed: int) -> str:
    """Return numbers that no model wrote."""
    draw = random.Random(f"attention {seed}")
    return ", ".join(str(draw.randrange(100)) for _ in range(NUMBERS))
