"""Probe `drift`: shifts and random directions in closed form, and tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subl import Findings, ModelError, ModelRef, PluginError, Student, Subject
from subl.generators.numbers import Numbers
from subl.models.steering import save_vectors
from subl.probes.drift import Drift
from subl.probes.drift_statistics import (
    alignment,
    beyond_chance,
    bootstrap_alignment,
    cosine,
    matched_cosines,
    projections,
    split_half,
)
from subl.registry.registry import registry
from subl.traits.preference import Preference
from tests.distillers.soft import model as sized
from tests.tiny import context, reference, tiny_model

TRAIT = Preference(Preference.Config(target="owl", candidates=("owl", "dog", "panda"), questions=5))
GENERATOR = Numbers(Numbers.Config(phrasing="brief"))
SMALL: dict[str, Any] = {"draws": 100, "resamples": 100, "sample": 32}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_it_keeps_the_contract_of_a_probe() -> None:
    assert registry.load("probe", "drift") is Drift


# In closed form.


def test_a_share_of_the_direction_projects_to_that_share_whatever_is_at_right_angles() -> None:
    direction = np.array([[3.0, 4.0, 0.0]])
    shifts = np.array([[[1.5, 2.0, 9.0], [-3.0, -4.0, 1.0]]])
    np.testing.assert_allclose(projections(shifts, direction), [[0.5, -1.0]])
    assert alignment(shifts[:, :1], direction)[0] == pytest.approx(2.5 / np.hypot(2.5, 9))
    assert np.isnan(alignment(np.zeros((1, 2, 3)), direction)).all()
    assert cosine(direction, -direction)[0] == pytest.approx(-1)


def test_the_bootstrap_resamples_prompts_of_both_models_together() -> None:
    shifts, teacher = rng(1).normal(size=(2, 6, 4)), rng(2).normal(size=(2, 6, 4))
    weights = rng(3).multinomial(6, np.full(6, 1 / 6), size=20)
    found = bootstrap_alignment(shifts, teacher, resamples=20, rng=rng(3))
    for sample, counts in enumerate(weights):
        chosen = np.repeat(np.arange(6), counts)
        expected = cosine(shifts[:, chosen].mean(axis=1), teacher[:, chosen].mean(axis=1))
        np.testing.assert_allclose(found[sample], expected, atol=1e-9)
    minus = rng(4).normal(size=(2, 6, 4))
    apart = bootstrap_alignment(shifts, teacher, resamples=20, rng=rng(3), minus=minus)
    np.testing.assert_allclose(apart, found - bootstrap_alignment(minus, teacher, resamples=20, rng=rng(3)), atol=1e-12)


def test_random_directions_have_the_covariance_of_activations() -> None:
    activations = rng(1).normal(size=(1, 40, 3)) * [5, 1, 0.2] + 7
    covariance = np.cov(activations[0].T)
    drawn = rng(2).multivariate_normal(np.zeros(3), covariance, size=40_000)
    expected = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    axes = np.eye(3)[:, None]
    found = matched_cosines(axes, activations, draws=40_000, rng=rng(3))[..., 0]
    np.testing.assert_allclose((found**2).sum(axis=1), 1, atol=1e-9)
    np.testing.assert_allclose(found.T @ found / 40_000, expected.T @ expected / 40_000, atol=0.01)
    # In a wide direction chance alone aligns; in one where nothing varies it cannot.
    assert np.quantile(np.abs(found[:, 0]), 0.5) > 0.95
    assert np.quantile(np.abs(found[:, 2]), 0.95) < 0.5


def test_p_is_uniform_for_shifts_that_are_activations_themselves() -> None:
    activations = rng(1).normal(size=(1, 200, 6)) * [6, 3, 1, 1, 0.5, 0.1]
    shifts = (rng(2).normal(size=(500, 200)) @ (activations[0] - activations[0].mean(axis=0)))[:, None]
    teacher = rng(3).normal(size=200) @ (activations[0] - activations[0].mean(axis=0))
    null = matched_cosines(teacher[None, None], activations, draws=999, rng=rng(4))[:, 0, 0]
    p = np.array([beyond_chance(float(value), null) for value in cosine(shifts[:, 0], teacher)])
    assert abs((p < 0.05).mean() - 0.05) < 0.03
    assert abs(p.mean() - 0.5) < 0.05
    assert np.isnan(beyond_chance(float("nan"), null))


def test_halves_agree_as_far_as_there_is_a_common_shift() -> None:
    noise = rng(1).normal(size=(1, 40, 300))
    assert abs(split_half(noise, splits=50, rng=rng(2))[0]) < 0.3
    assert split_half(noise + 3, splits=50, rng=rng(2))[0] > 0.95


# In models.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drift")


@pytest.fixture(scope="module")
def refs(folder: Path) -> dict[str, ModelRef]:
    base, *others = (tiny_model(folder, seed=seed) for seed in range(3))
    made = zip(("teacher", "other"), others, strict=True)
    return {"base": base, **{name: base.derive(name, path=Path(other.config["id"])) for name, other in made}}


def probed(folder: Path, subject: Subject, **settings: Any) -> Findings:
    ctx = context(folder, trait=TRAIT, generator=GENERATOR)
    return Drift(Drift.Config.model_validate(SMALL | settings)).probe(subject, ctx)


def subject(refs: dict[str, ModelRef], role: Any, model: str, **changes: Any) -> Subject:
    known = {"base": refs["base"], "teacher": refs["teacher"], "teacher_base": refs["base"]}
    return Subject(role, refs[model], **{**known, **changes})


@pytest.mark.parametrize("prompts", ["questions", "carrier"])
def test_a_student_that_is_the_teacher_moved_all_the_way(prompts: str, folder: Path, refs: dict[str, ModelRef]) -> None:
    found = probed(
        folder / prompts, subject(refs, "student", "teacher", control=refs["base"]), prompts=prompts, count=6
    )
    value = {name: measure.value for name, measure in found.measures.items()}
    assert value["alignment"] == pytest.approx(1)
    assert value["projection"] == pytest.approx(1)
    assert value["relative_shift"] == pytest.approx(1)
    assert value["beyond_control"] == pytest.approx(1)
    assert value["alignment_p"] <= 2 / 101
    assert np.isnan(value["control_alignment"])
    assert value["control_projection"] == 0
    assert value["control_share"] == value["base_share"] != value["share"]


def test_the_course_leads_from_the_base_to_the_student(folder: Path, refs: dict[str, ModelRef]) -> None:
    states = tuple(Student(refs[name], refs["base"], n) for name, n in (("base", 5), ("other", 9), ("teacher", 20)))
    found = probed(
        folder / "course", subject(refs, "student", "teacher", control=refs["other"], course=states), tokens="mean"
    )
    rows = [row for row in found.tables["checkpoints"].rows if row[0] == "student"]
    assert [row[1] for row in rows] == [5] * 3 + [9] * 3 + [20] * 3
    by_update = {row[1]: row for row in rows if row[2] == "after layer 1"}
    assert by_update[5][4] == 0
    assert by_update[20][4] == pytest.approx(1)
    other = next(row for row in found.tables["layers"].rows if row[:2] == ("control", "after layer 1"))
    assert by_update[9][3] == pytest.approx(other[2])
    drawn = {path.name for path in (folder / "course/out/figures").iterdir()}
    assert drawn == {"layers.png", "course.png"}


def test_layers_where_the_teacher_moved_nowhere_have_no_direction(folder: Path, refs: dict[str, ModelRef]) -> None:
    lm = context(folder / "load").load(refs["base"], fresh=True)
    with torch.no_grad():
        for block in lm.model.model.layers:
            block.mlp.down_proj.weight.mul_(1.2)
    lm.model.save_pretrained(folder / "grown")
    lm.tokenizer.save_pretrained(folder / "grown")
    grown = reference(folder / "grown")
    found = probed(
        folder / "still", Subject("student", grown, refs["base"], grown, refs["base"], control=refs["other"])
    )
    embeddings, block, _ = (row for row in found.tables["layers"].rows if row[0] == "student")
    assert (embeddings[1], block[1]) == ("embeddings", "after layer 0")
    assert np.isnan(embeddings[2])
    assert block[2] == pytest.approx(1)
    assert found.measures["alignment"].value == pytest.approx(1)
    assert (folder / "still/out/figures/layers.png").is_file()


def test_a_teacher_that_is_steered_in_a_later_block_is_compared_from_there_on(
    folder: Path, refs: dict[str, ModelRef]
) -> None:
    vectors = folder / "vectors.safetensors"
    save_vectors(vectors, {1: torch.linspace(-1, 1, 32)}, 2.0)
    steered = refs["base"].derive("steered", vectors=vectors)
    found = probed(
        folder / "steered", Subject("student", steered, refs["base"], steered, refs["base"], control=refs["other"])
    )
    value = {name: measure.value for name, measure in found.measures.items()}
    assert all(np.isfinite(list(value.values())))
    for name in ("alignment", "projection", "relative_shift"):
        assert value[name] == pytest.approx(1)
    control = next(row for row in found.tables["layers"].rows if row[:2] == ("control", "after layer 1"))
    assert value["control_alignment"] == pytest.approx(control[2])
    assert value["alignment_p"] <= 2 / 101
    assert "teacher or student moved nothing after these layers, so means are over the others: 0" in found.remarks
    bound = probed(folder / "bound", Subject("teacher", steered, refs["base"], steered, refs["base"]))
    assert bound.measures["reliability"].value == pytest.approx(1)


def test_the_teacher_says_what_bounds_its_students_and_the_base_nothing(
    folder: Path, refs: dict[str, ModelRef]
) -> None:
    found = probed(folder / "teacher", subject(refs, "teacher", "teacher"))
    assert 0 < found.measures["reliability"].value <= 1
    assert found.measures["relative_size"].value > 0
    assert (folder / "teacher/out/figures/teacher.png").is_file()
    assert not probed(folder / "base", subject(refs, "base", "base")).measures


def test_an_unbiased_teacher_gives_no_direction(folder: Path, refs: dict[str, ModelRef]) -> None:
    found = probed(folder / "none", subject(refs, "student", "other", teacher=refs["base"]))
    assert not found.measures
    assert "moved nowhere" in found.remarks[0]


def test_another_initialisation_is_said_to_be_one(folder: Path, refs: dict[str, ModelRef]) -> None:
    base = tiny_model(folder, seed=2)
    student = base.derive("student", path=Path(refs["base"].config["id"]))
    found = probed(folder / "init", Subject("student", student, base, refs["teacher"], refs["base"]))
    assert any("start from different weights" in remark for remark in found.remarks)
    assert any("this is the control arm" in remark for remark in found.remarks)


def test_a_control_student_of_another_base_is_no_control(folder: Path, refs: dict[str, ModelRef]) -> None:
    base = tiny_model(folder, seed=2)
    student = base.derive("student", path=Path(refs["base"].config["id"]))
    found = probed(
        folder / "elsewhere", Subject("student", student, base, refs["teacher"], refs["base"], control=refs["other"])
    )
    assert "alignment" in found.measures
    assert not [name for name in found.measures if "control" in name]
    assert any("made from another base" in remark for remark in found.remarks)


@pytest.mark.parametrize("role", ["base", "student"])
def test_models_of_another_shape_are_refused_even_before_training(
    role: str, folder: Path, refs: dict[str, ModelRef]
) -> None:
    narrow = sized(folder, hidden_size=16)
    with pytest.raises(ModelError, match=r"cannot be compared; use\s+probes 'attention' or 'preference'"):
        probed(folder / "shape", Subject(role, narrow, base=narrow, teacher=refs["teacher"], teacher_base=refs["base"]))  # type: ignore[arg-type]


def test_one_question_is_not_enough(folder: Path, refs: dict[str, ModelRef]) -> None:
    lonely = Preference(Preference.Config(target="owl", candidates=("owl", "dog"), questions=1))
    ctx = context(folder / "one", trait=lonely, generator=GENERATOR)
    with pytest.raises(PluginError, match='use prompts = "carrier"'):
        Drift(Drift.Config()).probe(subject(refs, "student", "other"), ctx)
