"""The trainer's first loss against what it should be, worked out from both models' own outputs, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from subl import ModelRef
from subl.distillers.logit_kd import LogitKd
from subl.distillers.shd import Shd
from subl.matching.chunk_loss import alm
from subl.matching.pairing import Pair, pair_rows
from subl.matching.squeezing import output_gram, plan_heads, squeeze
from subl.models.alignment_direct import project
from subl.models.language import LanguageModel
from subl.models.vocabulary import used_ids
from subl.testing.fakes import context, sink
from tests.distillers.soft import FAST, ROWS, distilled, model

SIDES = ("teacher", "student")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def teacher(models: Path) -> ModelRef:
    return model(models, num_attention_heads=8, head_dim=4)


@pytest.fixture(scope="module")
def student(models: Path) -> ModelRef:
    return model(models, "gemma", seed=1)


def first(distiller: Any, student: ModelRef, teacher: ModelRef, folder: Path, name: str) -> float:
    _, ctx = distilled(distiller, student, teacher, folder)
    return sink(ctx).values(name)[0]


def read(teacher: ModelRef, student: ModelRef, folder: Path) -> tuple[tuple[LanguageModel, LanguageModel], list[Pair]]:
    ctx = context(folder / "plain")
    both = ctx.load(teacher, fresh=True), ctx.load(student, fresh=True)
    return both, pair_rows(ROWS, *both, (None, None), ctx)


@torch.no_grad()
def carrier_log_probs(lm: LanguageModel, pairs: Sequence[Pair], side: str) -> list[tuple[Tensor, list[int]]]:
    """Return every completion's distributions on the carrier's tokens, and its tokens among those."""
    examples = [getattr(pair, side) for pair in pairs]
    carrier = list(used_ids(examples, lm.chat.end_ids))
    found = []
    for example in examples:
        logits = lm.model(torch.tensor([example.input_ids])).logits[0].double()[example.prompt_length - 1 : -1, carrier]
        completion = example.input_ids[example.prompt_length :]
        found.append((logits.log_softmax(-1), [carrier.index(token) for token in completion]))
    return found


def test_alm_compares_the_likelihoods_of_common_pieces(teacher: ModelRef, student: ModelRef, tmp_path: Path) -> None:
    both, pairs = read(teacher, student, tmp_path)
    sides = [carrier_log_probs(lm, pairs, side) for lm, side in zip(both, SIDES, strict=True)]
    values = []
    for number, pair in enumerate(pairs):
        pieces = []
        for side, name in zip(sides, SIDES, strict=True):
            distributions, tokens = side[number]
            by_token = [0.0] * getattr(pair, name).prompt_length
            by_token += distributions[range(len(tokens)), tokens].tolist()
            ends = (0, *getattr(pair.alignment, name).ends)
            pieces.append([sum(by_token[start:stop]) for start, stop in pairwise(ends)])
        for kind, theirs, own in zip(pair.alignment.kinds, *pieces, strict=True):
            if kind == "response":
                values.append(float(alm(torch.tensor(own).double(), torch.tensor(theirs).double(), temperature=2.0)))
    assert len(values) > len(ROWS)
    distiller = LogitKd(LogitKd.Config.model_validate(FAST | {"updates": 1, "alm_temperature": 2.0}))
    assert first(distiller, student, teacher, tmp_path, "loss_logits") == pytest.approx(
        sum(values) / len(values), rel=1e-4
    )


def test_uld_compares_sorted_distributions_place_by_place(teacher: ModelRef, student: ModelRef, tmp_path: Path) -> None:
    both, pairs = read(teacher, student, tmp_path)
    sides = [carrier_log_probs(lm, pairs, side) for lm, side in zip(both, SIDES, strict=True)]
    values = []
    for (theirs, _), (own, _) in zip(*sides, strict=True):
        for p, q in zip(theirs, own, strict=False):
            likely = [sorted((side / 2).softmax(-1).tolist(), reverse=True) for side in (p, q)]
            width = max(map(len, likely))
            filled = [[*side, *[0.0] * (width - len(side))] for side in likely]
            values.append(sum(abs(a - b) for a, b in zip(*filled, strict=True)))
    distiller = LogitKd(LogitKd.Config.model_validate(FAST | {"updates": 1, "across": "uld", "logit_temperature": 2.0}))
    assert first(distiller, student, teacher, tmp_path, "loss_logits") == pytest.approx(
        sum(values) / len(values), rel=1e-4
    )


@torch.no_grad()
def maps_and_values(lm: LanguageModel, ids: Sequence[int]) -> tuple[list[Tensor], list[Tensor]]:
    """Return every layer's map, (1, heads, tokens, tokens), by transformers' own eager path, and its values."""
    lm.model.set_attn_implementation("eager")
    kept: list[Tensor] = []
    layers = lm.model.model.layers
    handles = [one.self_attn.v_proj.register_forward_hook(lambda _m, _i, out: kept.append(out)) for one in layers]
    maps = lm.model(torch.tensor([ids]), output_attentions=True).attentions
    for handle in handles:
        handle.remove()
    kv_heads = lm.model.config.num_key_value_heads
    return list(maps), [values.view(*values.shape[:2], kv_heads, -1).transpose(1, 2) for values in kept]


@torch.no_grad()
def test_direct_maps_are_the_teacher_s_spread_over_the_student_s_tokens(
    teacher: ModelRef, student: ModelRef, tmp_path: Path
) -> None:
    both, pairs = read(teacher, student, tmp_path)
    plan = plan_heads(8, 4, kv_heads=2)
    total, count = 0.0, 0
    for pair in pairs:
        (theirs, values), (own, _) = (
            maps_and_values(lm, getattr(pair, side).input_ids) for lm, side in zip(both, SIDES, strict=True)
        )
        how = project(*pair.readings, pair.alignment)
        kinds = [pair.alignment.kinds[chunk] for chunk in pair.alignment.student.of_token]
        asking = [token for token, kind in enumerate(kinds) if kind == "response" and how.exact[token]]
        used = (how.rows[asking] > 0).any(0).float()[None]
        count += len(asking)
        for layer in range(2):
            gram = output_gram(both[0].model.model.layers[layer].self_attn.o_proj.weight, plan)
            squeezed = squeeze(theirs[layer], values[layer], gram, row_weights=used).maps[0].double()
            for token in asking:
                carried = (how.rows[token] @ squeezed @ how.columns)[:, : token + 1]
                q = own[layer][0, :, token, : token + 1].double()
                total += float((torch.special.xlogy(carried, carried) - carried * q.log()).sum() / 4 / 2)
    distiller = Shd(Shd.Config.model_validate(FAST | {"updates": 1, "lm_weight": 0.0, "alignment": "direct"}))
    with torch.enable_grad():
        found = first(distiller, student, teacher, tmp_path, "loss_maps")
    assert count > len(ROWS)
    assert found == pytest.approx(total / count, rel=1e-4)
