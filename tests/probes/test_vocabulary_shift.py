"""Probe `vocabulary_shift`: two distributions, by brute force and in tiny models."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from subl import Context, Findings, ModelError, ModelRef, Subject
from subl.probes.vocabulary_shift import VocabularyShift
from subl.probes.vocabulary_shift_statistics import Shift, movers, ranks, word_shift
from subl.registry.registry import registry
from subl.traits.preference import Preference
from tests.tiny import context, reference, tiny_model

TRAIT = Preference(Preference.Config(target="owl", candidates=("owl", "dog", "panda"), questions=4))


def shift(questions: int = 3, tokens: int = 9, seed: int = 0) -> Shift:
    draw = np.random.default_rng(seed).normal(size=(2, questions, tokens)) * 2
    return Shift.of(*log_softmax(draw, axis=-1))


def test_it_keeps_the_contract_of_a_probe() -> None:
    assert registry.load("probe", "vocabulary_shift") is VocabularyShift


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=8))
def test_a_rank_is_one_more_than_what_is_larger(values: list[int]) -> None:
    found = ranks(np.array([values], dtype=float))[0]
    assert found.tolist() == [1 + sum(other > value for other in values) for value in values]


def test_changes_are_sums_over_tokens() -> None:
    s = shift()
    for q in range(3):
        p, r = ([math.exp(v) for v in table[q]] for table in (s.before, s.after))
        assert s.total_variation()[q] == pytest.approx(sum(abs(a - b) for a, b in zip(p, r, strict=True)) / 2)
        assert s.divergence()[q] == pytest.approx(sum(b * math.log(b / a) for a, b in zip(p, r, strict=True)))
    assert s.delta_p[4] == pytest.approx(
        np.mean([math.exp(s.after[q, 4]) - math.exp(s.before[q, 4]) for q in range(3)])
    )
    assert s.delta_p.sum() == pytest.approx(0)


def test_a_word_has_the_probability_of_its_own_tokens_and_the_rank_of_its_best_form() -> None:
    s = shift()
    word = word_shift(s, own=(2, 5), forms=(2, 5, 7))
    for q in range(3):
        assert word.before[q] == pytest.approx(math.log(math.exp(s.before[q, 2]) + math.exp(s.before[q, 5])))
        best = [min(1 + sum(v > row[t] for v in row) for t in (2, 5, 7)) for row in (s.before[q], s.after[q])]
        assert word.delta_rank[q] == best[0] - best[1]


def test_risers_rise_and_fallers_fall() -> None:
    change = np.array([0.1, -0.2, 0.3, 0.0, -0.4])
    up, down = movers(change, np.arange(5), 3)
    assert up.tolist() == [2, 0]
    assert down.tolist() == [4, 1]
    assert movers(change, np.array([1, 2]), 1)[1].tolist() == [1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vocabulary")


def probed(folder: Path, role: Any, model: ModelRef, base: ModelRef, **settings: Any) -> tuple[Findings, Context]:
    ctx = context(folder, trait=TRAIT)
    found = VocabularyShift(VocabularyShift.Config(**settings)).probe(Subject(role, model, base=base), ctx)
    return found, ctx


def test_equal_models_do_not_differ(folder: Path) -> None:
    base = tiny_model(folder)
    found, _ = probed(folder / "same", "student", base, base)
    for name in ("total_variation", "kl", "target_delta_p", "target_delta_rank", "numbers_delta_p"):
        assert found.measures[name].value == pytest.approx(0, abs=1e-7)
    assert any("no probability changed at all" in remark for remark in found.remarks)
    assert not found.tables["movers"].rows


def test_a_student_is_compared_with_its_base_token_by_token(folder: Path) -> None:
    base, student = tiny_model(folder), tiny_model(folder, seed=1)
    found, ctx = probed(folder / "student", "student", student, base, top=5)
    tables = []
    for ref in (base, student):
        lm = ctx.load(ref)
        prompts = [lm.chat.prompt(question, system=None) for question in TRAIT.questions()]
        with torch.no_grad():
            logits = torch.stack([lm.model(torch.tensor([prompt])).logits[0, -1].double() for prompt in prompts])
        tables.append(logits.log_softmax(-1).numpy())
    before, after = tables
    expected = (np.exp(after) - np.exp(before)).mean(axis=0)
    risers = [row for row in found.tables["movers"].rows if row[:2] == ("probability", "riser")]
    assert [row[4] for row in risers] == np.argsort(-expected)[:5].tolist()
    assert risers[0][8] == pytest.approx(expected.max(), abs=1e-6)
    moved = np.abs(np.exp(after) - np.exp(before)).sum(axis=1).mean() / 2
    assert found.measures["total_variation"].value == pytest.approx(moved, abs=1e-5)
    words = {row[0]: row for row in found.tables["words"].rows}
    assert set(words) == {"owl", "dog", "panda"}
    assert words["owl"][1] == "target"
    assert {p.name for p in (ctx.out / "figures").iterdir()} == {"tokens.png", "movers.png", "words.png"}
    assert any("control arm" in remark for remark in found.remarks)


def test_a_base_is_compared_with_itself_under_the_traits_statement(folder: Path) -> None:
    base = tiny_model(folder)
    found, _ = probed(folder / "base", "base", base, base)
    assert found.measures["total_variation"].value > 0
    assert "base with the trait's statement − base" in found.remarks[0]


def test_models_with_other_vocabularies_are_refused(folder: Path) -> None:
    base = tiny_model(folder)
    lm = context(folder / "load").load(base, fresh=True)
    lm.tokenizer.add_tokens(["<more>"])
    lm.model.resize_token_embeddings(len(lm.tokenizer))
    lm.model.save_pretrained(folder / "grown")
    lm.tokenizer.save_pretrained(folder / "grown")
    grown = reference(folder / "grown")
    with pytest.raises(ModelError, match="cannot be compared token by token: use probe 'preference'"):
        probed(folder / "other", "student", grown, base)
