"""Probe `lens`: curves over depth, and a tiny model against its own logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subl import Context, Findings, ModelRef, Subject
from subl.models.steering import save_vectors
from subl.probes.lens import Lens
from subl.probes.lens_readings import Glass, Tokens
from subl.probes.lens_statistics import half_way, rise
from subl.registry.registry import registry
from subl.traits.preference import Preference
from tests.tiny import context, tiny_model

TRAIT = Preference(Preference.Config(target="owl", candidates=("owl", "dog", "panda"), questions=4))
SMALL: dict[str, Any] = {
    "numbers": [5, 24],
    "k": 3,
    "contexts": 2,
    "questions": 2,
    "placebos": 2,
    "resamples": 100,
    "batch_size": 7,
}


def test_it_keeps_the_contract_of_a_probe() -> None:
    assert registry.load("probe", "lens") is Lens


def test_the_layer_of_the_largest_step_is_found_with_its_spread() -> None:
    curves = np.cumsum(np.array([[0.0, 0, 0, 0], [1, 1, 1, 5], [3, 3, 3, 3], [1, 1, 1, 1]]), axis=0)
    found = rise(curves, resamples=500, rng=np.random.default_rng(0))
    assert found.layer == 1
    assert found.share == 0.75
    assert (found.low, found.high) == (0.0, 1.0)


def test_steps_are_counted_until_a_curve_stays_above_half_its_end() -> None:
    assert half_way(np.array([0.0, 3, 1, 2, 4])) == 3
    assert half_way(np.array([3.0, 3, 3, 3, 4])) == 0
    assert np.isnan(half_way(np.array([0.0, 1, -1])))


def test_a_token_of_several_words_counts_for_each() -> None:
    weights = Tokens((1, 2), ((2,), (3, 4))).direction(6)
    assert weights.tolist() == [0, 0.5, 0.5 - 0.5, -0.25, -0.25, 0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lens")


@pytest.fixture(scope="module")
def base(folder: Path) -> ModelRef:
    return tiny_model(folder)


@pytest.fixture(scope="module")
def probed(folder: Path, base: ModelRef) -> tuple[Findings, Context]:
    ctx = context(folder / "student", trait=TRAIT)
    student = tiny_model(folder, seed=1)
    return Lens(Lens.Config.model_validate(SMALL)).probe(Subject("student", student, base=base), ctx), ctx


def logits_of(ctx: Context, ref: ModelRef) -> tuple[Any, torch.Tensor]:
    lm = ctx.load(ref)
    prompts = [lm.chat.prompt(question, system=None) for question in TRAIT.questions()]
    with torch.no_grad():
        return lm, torch.stack([lm.model(torch.tensor([prompt])).logits[0, -1].double() for prompt in prompts])


def margins(ctx: Context, ref: ModelRef) -> torch.Tensor:
    """Each question's margin, from the model's own logits."""
    lm, logits = logits_of(ctx, ref)
    tokens = Tokens.of(lm, TRAIT, ("dog", "panda"), ((), ()), None)
    others = torch.stack([logits[:, list(own)].mean(1) for own in tokens.controls]).mean(0)
    return logits[:, list(tokens.target)].mean(1) - others


def test_behind_the_last_block_the_lens_is_the_model(
    probed: tuple[Findings, Context], folder: Path, base: ModelRef
) -> None:
    found, ctx = probed
    own, before = margins(ctx, tiny_model(folder, seed=1)), margins(ctx, base)
    assert found.measures["margin"].value == pytest.approx(float(own.mean()), abs=1e-4)
    assert found.measures["margin_change"].value == pytest.approx(float((own - before).mean()), abs=1e-4)
    assert found.tables["depth"].rows[-1][1] == pytest.approx(float(own.mean()), abs=1e-4)
    assert [row[0] for row in found.tables["depth"].rows] == ["embeddings", "after layer 0", "after layer 1"]


def test_what_is_written_adds_up_to_the_margin(probed: tuple[Findings, Context]) -> None:
    found, _ = probed
    total = sum(found.measures[f"{name}_total"].value for name in ("embedding", "attention", "mlp"))
    assert total == pytest.approx(found.measures["margin"].value, abs=1e-4)
    change = sum(found.measures[f"{name}_change"].value for name in ("embedding", "attention", "mlp"))
    assert change == pytest.approx(found.measures["margin_change"].value, abs=1e-4)
    by_head = sum(row[2] for row in found.tables["heads"].rows)
    assert by_head == pytest.approx(found.measures["attention_total"].value, abs=1e-4)
    assert [row[:2] for row in found.tables["heads"].rows] == [(layer, head) for layer in (0, 1) for head in range(4)]
    parts = [row[:2] for row in found.tables["parts"].rows]
    assert parts == [("embedding", None), ("attention", 0), ("mlp", 0), ("attention", 1), ("mlp", 1)]


def test_the_vectors_of_a_steered_teacher_are_a_part_of_their_own(folder: Path, base: ModelRef) -> None:
    vectors = folder / "vectors.safetensors"
    save_vectors(vectors, {0: torch.linspace(-1, 1, 32)}, 2.0)
    ctx = context(folder / "steered", trait=TRAIT)
    steered = base.derive("steered", vectors=vectors)
    found = Lens(Lens.Config.model_validate(SMALL)).probe(Subject("teacher", steered, base=base), ctx)
    for name, whole in (("total", "margin"), ("change", "margin_change")):
        total = sum(found.measures[f"{part}_{name}"].value for part in ("embedding", "attention", "mlp", "steering"))
        assert total == pytest.approx(found.measures[whole].value, abs=1e-4)
    rows = [row for row in found.tables["parts"].rows if row[0] == "steering"]
    assert [(row[1], row[2]) for row in rows] == [(0, pytest.approx(found.measures["steering_total"].value))]
    assert found.measures["steering_total"].value != 0


def test_preambles_about_numbers_are_read_at_every_layer_and_drawn(probed: tuple[Findings, Context]) -> None:
    found, ctx = probed
    rows = found.tables["contexts"].rows
    assert len(rows) == 3 * 3
    last = {row[1]: row[2] for row in rows if row[0] == "after layer 1"}
    assert found.measures["hp_minus_random"].value == pytest.approx(last["HP"] - last["random"])
    drawn = {path.name for path in (ctx.out / "figures").iterdir()}
    assert drawn == {"depth.png", "contexts.png", "parts.png", "heads.png"}
    assert any("several tokens" in remark for remark in found.remarks)


def test_number_tokens_are_followed_where_they_are_single(folder: Path) -> None:
    lm, logits = logits_of(context(folder / "lift"), tiny_model(folder, "gemma"))
    tokens = Tokens.of(lm, TRAIT, ("dog", "panda"), (("7", "8"), ("1", "2")), None)
    assert len(tokens.raised) == len(tokens.random) == 2
    prompts = [lm.chat.prompt(question, system=None) for question in TRAIT.questions()]
    depth = Glass(lm, tokens, prompts[0], batch_size=3).depth(prompts)
    logs = logits.log_softmax(-1)
    expected = logs[:, list(tokens.raised)].mean(1) - logs[:, list(tokens.random)].mean(1)
    assert depth.lift is not None
    np.testing.assert_allclose(depth.lift[-1], expected.numpy(), atol=1e-4)
    own = logs[:, list(tokens.target)].logsumexp(1)
    np.testing.assert_allclose(depth.log_prob[-1], own.numpy(), atol=1e-4)


def test_a_model_that_is_its_base_changes_nothing(folder: Path, base: ModelRef) -> None:
    ctx = context(folder / "same", trait=TRAIT)
    found = Lens(Lens.Config.model_validate(SMALL)).probe(Subject("teacher", base, base=base), ctx)
    assert found.measures["margin_change"].value == 0
    assert any("nothing changed" in remark for remark in found.remarks)
