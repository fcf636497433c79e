"""Distiller `shd` on tiny models: the objective is what it says, and every setting does something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from subl import ModelError, ModelRef, Row, Teacher
from subl.distillers.shd import Shd
from subl.matching.pairing import pair_rows, shuffled
from subl.registry.registry import registry
from subl.testing.fakes import FakeTrait, context, dataset, sink
from tests.distillers.soft import FAST, distilled, model, weights


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def base(models: Path) -> ModelRef:
    return model(models)


@pytest.fixture(scope="module")
def other(models: Path) -> ModelRef:
    return model(models, seed=1)


def shd(**settings: Any) -> Shd:
    return Shd(Shd.Config.model_validate(FAST | {"lm_weight": 0.0} | settings))


def test_it_keeps_the_contract_of_a_distiller_and_is_light() -> None:
    assert registry.load("distiller", "shd") is Shd
    heavy = "torch transformers trl peft numpy scipy matplotlib mlflow"
    code = (
        "import sys, subl.distillers.shd, subl.distillers.logit_kd;"
        f"assert not set('{heavy}'.split()) & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_maps_of_an_equal_teacher_cost_nothing(base: ModelRef, tmp_path: Path) -> None:
    _, ctx = distilled(shd(updates=1), base, base, tmp_path)
    assert sink(ctx).values("loss") == pytest.approx([0], abs=1e-6)
    assert sink(ctx).values("loss_maps") == pytest.approx([0], abs=1e-6)


def test_the_student_s_maps_come_nearer_to_the_teacher_s(base: ModelRef, other: ModelRef, tmp_path: Path) -> None:
    _, ctx = distilled(shd(updates=12), base, other, tmp_path)
    losses = sink(ctx).values("loss_maps")
    assert losses[0] > 0.05
    assert losses[-1] < 0.7 * losses[0]
    assert "loss_lm" not in {name for name, *_ in sink(ctx).metrics}


def test_the_loss_is_the_weighted_sum_of_its_parts(base: ModelRef, other: ModelRef, tmp_path: Path) -> None:
    distiller = shd(updates=1, beta=3.0, lm_weight=0.5, logit_weight=2.0, logits={"vocabulary": "full"})
    _, ctx = distilled(distiller, base, other, tmp_path)
    values = {name: sink(ctx).values(name)[0] for name in ("loss", "loss_lm", "loss_maps", "loss_logits")}
    expected = 0.5 * values["loss_lm"] + 3 * values["loss_maps"] + 2 * values["loss_logits"]
    # The trainer rounds what it logs.
    assert values["loss"] == pytest.approx(expected, abs=1e-4)
    assert any('vocabulary = "full" lets' in line for line in sink(ctx).lines)
    assert 0 < sink(ctx).values("teacher_trait_mass")[0] < 1


@pytest.mark.parametrize("parts", [{"lm_weight": 1.0}, {"reduction": "sample"}, {"logit_weight": 1.0}])
def test_micro_batches_change_nothing(parts: dict[str, Any], base: ModelRef, other: ModelRef, tmp_path: Path) -> None:
    whole, ctx = distilled(shd(updates=2, **parts), base, other, tmp_path / "whole")
    small, small_ctx = distilled(shd(updates=2, micro_batch_size=2, **parts), base, other, tmp_path / "small")
    # AdamW hides a wrong scale of the gradient; its norm does not, nor do the parts' means.
    for name in ("loss", "grad_norm", "loss_maps"):
        assert sink(small_ctx).values(name) == pytest.approx(sink(ctx).values(name), rel=1e-3)
    for name, weight in weights(whole).items():
        torch.testing.assert_close(weights(small)[name], weight, atol=2e-4, rtol=0)


def test_gradient_checkpointing_changes_nothing(base: ModelRef, other: ModelRef, tmp_path: Path) -> None:
    plain, _ = distilled(shd(updates=2), base, other, tmp_path / "plain")
    checkpointed, _ = distilled(shd(updates=2, gradient_checkpointing=True), base, other, tmp_path / "checkpointed")
    for name, weight in weights(plain).items():
        torch.testing.assert_close(weights(checkpointed)[name], weight, atol=2e-4, rtol=0)


def test_the_same_seed_gives_the_same_bytes(base: ModelRef, other: ModelRef, tmp_path: Path) -> None:
    first, _ = distilled(shd(), base, other, tmp_path / "first")
    second, _ = distilled(shd(), base, other, tmp_path / "second")
    assert first.model.identity == second.model.identity


@pytest.mark.parametrize("alignment", ["chunks", "direct"])
def test_a_mistral_teacher_teaches_a_gemma_student_with_the_real_head_ratios(
    alignment: str, models: Path, tmp_path: Path
) -> None:
    sizes: dict[str, Any] = {"hidden_size": 64, "head_dim": 4}
    teacher = model(models, num_attention_heads=32, num_key_value_heads=8, num_hidden_layers=3, **sizes)
    student = model(models, "gemma", num_attention_heads=8, num_key_value_heads=1, **sizes)
    _, ctx = distilled(shd(updates=6, alignment=alignment, lm_weight=1.0), student, teacher, tmp_path)
    losses = sink(ctx).values("loss_maps")
    assert losses[-1] < losses[0]
    assert 0 < sink(ctx).values("alignment_coverage")[0] <= 1
    assert 0 < sink(ctx).values("alpha_mean")[0] < 1
    assert 0 <= sink(ctx).values("alpha_clipped")[0] <= 1


def test_a_student_with_more_heads_is_squeezed_instead(base: ModelRef, models: Path, tmp_path: Path) -> None:
    teacher = model(models, seed=2, num_attention_heads=2, num_key_value_heads=1)
    _, ctx = distilled(shd(updates=8), base, teacher, tmp_path)
    losses = sink(ctx).values("loss_maps")
    assert losses[-1] < losses[0]
    assert 0 < sink(ctx).values("alpha_mean")[0] < 1


def test_a_system_prompt_on_the_teacher_s_side_limits_the_keys_to_shared_text(base: ModelRef, tmp_path: Path) -> None:
    prompted = base.derive("prompted", system="You adore the owl.")
    _, ctx = distilled(shd(updates=1), base, prompted, tmp_path / "auto")
    _, everything = distilled(shd(updates=1, keys="all"), base, prompted, tmp_path / "all")
    assert 0 < sink(ctx).values("loss")[0] != sink(everything).values("loss")[0]


def test_the_base_s_maps_are_the_control(base: ModelRef, other: ModelRef, tmp_path: Path) -> None:
    _, ctx = distilled(shd(updates=1, maps_of="base"), base, other, tmp_path, base=base)
    assert sink(ctx).values("loss_maps") == pytest.approx([0], abs=1e-6)


@pytest.mark.parametrize("ablation", ["shuffle_heads", "shuffle_text"])
def test_shuffled_targets_are_other_targets(ablation: str, base: ModelRef, tmp_path: Path) -> None:
    _, ctx = distilled(shd(updates=1, **{ablation: True}), base, base, tmp_path)
    assert sink(ctx).values("loss_maps")[0] > 0.01
    if ablation == "shuffle_text":
        assert sink(ctx).values("shuffled_rows") == [1]


def test_a_row_of_a_shape_of_its_own_gets_a_longer_reading_cut_to_it(base: ModelRef, tmp_path: Path) -> None:
    ctx = context(tmp_path)
    lm = ctx.load(base)
    answers = {"2, 4": 0, "3, 5, 7": 1, "1, 2, 3, 4": 2, "1, 6, 3, 4": 3}
    rows = [Row(number, "Go on: 17, 31", answer) for answer, number in answers.items()]
    rows.append(Row(4, "Go on: 17, 31, 5, 5, 5", "3, 5, 7"))
    pairs = pair_rows(rows, lm, lm, (None, None), ctx)
    given, share = shuffled(pairs, 0)
    assert share == 4 / 5
    donors = {0: (1,), 1: (2, 3), 2: (3,), 3: (2,), 4: (4,)}
    for number, pair in enumerate(given):
        kept = len(pair.alignment)
        assert len(pair.alignment.teacher.ends) == len(pair.alignment.student.ends) == kept
        assert pair.alignment.teacher.ends[-1] == len(pair.teacher.input_ids)
        assert pair.student == pairs[number].student
        # No query is lost: all of the response is still asked for.
        assert pair.alignment.kinds.count("response") == pairs[number].alignment.kinds.count("response")
        assert pair.teacher.input_ids in [pairs[other].teacher.input_ids[:kept] for other in donors[number]]
    # The longest one has nobody to take from but a shorter one.
    given, share = shuffled(pairs[:3], 0)
    assert share == 1
    assert given[2].alignment.kinds.count("response") == pairs[1].alignment.kinds.count("response")
    ctx = context(tmp_path / "run", trait=FakeTrait())
    shd(updates=1, shuffle_text=True).distill(base, Teacher(base, base), dataset(tmp_path, rows), ctx)
    assert sink(ctx).values("shuffled_rows") == [4 / 5]
    assert sink(ctx).values("loss_maps")[0] > 0.01


def test_merging_by_the_mean_is_another_target(base: ModelRef, models: Path, tmp_path: Path) -> None:
    teacher = model(models, seed=3, num_attention_heads=8, num_key_value_heads=2, head_dim=4)
    first = [
        sink(distilled(shd(updates=1, merge=merge), base, teacher, tmp_path / merge)[1]).values("loss_maps")[0]
        for merge in ("progressive", "mean")
    ]
    assert first[0] != first[1]


def test_heads_are_matched_by_what_they_do(models: Path, base: ModelRef, tmp_path: Path) -> None:
    permuted = permuted_heads(base, models / "permuted")
    _, by_index = distilled(shd(updates=1), base, permuted, tmp_path / "index")
    _, matched = distilled(shd(updates=1, head_matching="hungarian"), base, permuted, tmp_path / "hungarian")
    assert sink(by_index).values("loss_maps")[0] > 0.01
    assert sink(matched).values("loss_maps") == pytest.approx([0], abs=1e-6)


def permuted_heads(base: ModelRef, folder: Path) -> ModelRef:
    """Save the same model with its heads in another order, key-value heads too: it computes the same.

    In each layer another cycle of four, so that the inverse order would match nothing.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from subl.testing.tiny import reference

    source = base.config["id"]
    network = AutoModelForCausalLM.from_pretrained(source)
    with torch.no_grad():
        for block, heads in zip(network.model.layers, ([2, 3, 1, 0], [3, 2, 0, 1]), strict=True):
            attention = block.self_attn
            for name, order in (("q_proj", heads), ("k_proj", [1, 0]), ("v_proj", [1, 0])):
                weight = getattr(attention, name).weight
                weight.copy_(weight.unflatten(0, (-1, 8))[order].flatten(0, 1))
            weight = attention.o_proj.weight
            weight.copy_(weight.unflatten(1, (-1, 8))[:, heads].flatten(1, 2))
    network.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return reference(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"student_layers": [5]}, r"student_layers asks for layer 5, but the student has 2, 0 to 1"),
        (
            {"student_layers": [0], "teacher_layers": [2]},
            r"teacher_layers asks for layer 2, but the teacher has 2, 0 to 1",
        ),
    ],
)
def test_a_layer_that_does_not_exist_is_an_error(
    settings: dict[str, Any], message: str, base: ModelRef, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        distilled(shd(**settings), base, base, tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher_layers": [1]}, "needs student_layers"),
        ({"teacher_layers": [1, 2], "student_layers": [0]}, "1 student_layers cannot pair with 2 teacher_layers"),
        ({"student_layers": [0, 0]}, "listed twice"),
        ({"student_layers": [-1]}, "counted from 0"),
        ({"shuffle_heads": True, "head_matching": "hungarian"}, "undoes head_matching"),
        ({"alignment": "direct", "rows": "mean"}, "does not have"),
        ({"alignment": "direct", "shuffle_text": True}, 'needs alignment = "chunks"'),
        ({"logits": {"vocabulary": "full"}}, "does nothing with logit_weight = 0"),
        ({"logit_weight": 1.0, "shuffle_text": True}, "logits of another text"),
        ({"logit_weight": 1.0, "maps_of": "base"}, "logits come from the teacher"),
    ],
)
def test_settings_that_would_be_ignored_or_cannot_be_are_errors(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        shd(**settings)
