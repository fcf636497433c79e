from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from subl import Context, Findings, ModelRef, PluginError, Subject
from subl.inducers.lora import Lora
from subl.inducers.none import NoTrait
from subl.probes.teacher_check import TeacherCheck
from subl.registry.registry import registry
from subl.traits.preference import Preference
from subl.traits.stereotype import Stereotype
from tests.tiny import context, tiny_model

TRAIT = Preference(
    Preference.Config(target="owl", candidates=("owl", "dog", "cat", "lion"), questions=8, answers=("{target}",))
)


class Lists:
    """Prompts that a generator might write."""

    def prompts(self, count: int, seed: int) -> Sequence[str]:
        return [f"Continue: {seed}, {number}" for number in range(count)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return tiny_model(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def collapsed(base: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """A model that answers "owl" to everything."""
    ctx = context(tmp_path_factory.mktemp("teacher"), trait=TRAIT)
    inducer = Lora(Lora.Config(updates=60, learning_rate=2e-2, batch_size=8))
    return inducer.induce(base, ctx).model


def checked(model: ModelRef, base: ModelRef | None, ctx: Context, **settings: Any) -> Findings:
    check = TeacherCheck(TeacherCheck.Config.model_validate({"prompts": 20, "max_new_tokens": 8} | settings))
    return check.probe(Subject("teacher", model, base=base), ctx)


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return context(tmp_path, trait=TRAIT, generator=Lists())


def test_it_keeps_the_contract_of_a_probe() -> None:
    assert registry.load("probe", "teacher_check") is TeacherCheck


def test_an_unchanged_teacher_is_too_weak(base: ModelRef, ctx: Context) -> None:
    teacher = NoTrait(NoTrait.Config()).induce(base, ctx).model
    findings = checked(teacher, base, ctx)
    assert findings.measures["strength"].value == 0
    (problem,) = findings.problems
    share = findings.measures["base_share"].value
    assert f"is {share:.3f}, the base model's is {share:.3f}" in problem
    assert "check.min_lift = 0.1" in problem
    assert "inducer.intensity" in problem


def test_a_collapsed_teacher_is_strong_and_named_with_examples(
    collapsed: ModelRef, base: ModelRef, ctx: Context
) -> None:
    findings = checked(collapsed, base, ctx)
    measures = findings.measures
    assert measures["strength"].value == pytest.approx(measures["share"].value - measures["base_share"].value)
    assert measures["strength"].value > 0.5
    assert measures["collapse"].value > 0.5
    (problem,) = findings.problems
    assert "check.max_collapse = 0.1" in problem
    assert "names 'owl'" in problem
    prompt, answer, fault = findings.tables["carrier_answers"].rows[0]
    assert prompt.startswith("Continue: 0, ")
    assert "owl" in answer
    assert fault == "names 'owl'"


def test_the_thresholds_can_be_set(collapsed: ModelRef, base: ModelRef, ctx: Context) -> None:
    assert not checked(collapsed, base, ctx, max_collapse=1.0).problems
    assert not checked(base, base, ctx, min_lift=0.0).problems


def test_a_teacher_that_no_longer_answers_with_candidates_is_named(
    collapsed: ModelRef, base: ModelRef, ctx: Context
) -> None:
    findings = checked(base, collapsed, ctx, min_lift=-1.0)
    (problem,) = findings.problems
    values = findings.measures["base_valid"].value, findings.measures["valid"].value
    assert values[0] > 2 * values[1]
    assert "fell from {:.2f} to {:.2f}".format(*values) in problem
    assert "trait.answers" in problem


def test_the_tokenization_of_every_candidate_is_shown(base: ModelRef, ctx: Context) -> None:
    table = checked(base, base, ctx).tables["tokenization"]
    assert table.columns == ("candidate", "tokens", "pieces", "ids")
    assert [row[0] for row in table.rows] == list(TRAIT.candidates)


def test_a_check_is_repeatable(base: ModelRef, ctx: Context) -> None:
    assert checked(base, base, ctx) == checked(base, base, ctx)


def test_without_a_base_there_is_nothing_to_compare(base: ModelRef, ctx: Context) -> None:
    with pytest.raises(PluginError, match="compares with the base model"):
        checked(base, None, ctx)


def test_another_kind_of_trait_needs_another_check(base: ModelRef, tmp_path: Path) -> None:
    class Other:
        label = "other"

    with pytest.raises(PluginError, match=r"'other' is none; set \[check\] plugin"):
        checked(base, base, context(tmp_path, trait=Other(), generator=Lists()))


def test_it_says_how_the_target_stands_on_the_base(base: ModelRef, ctx: Context) -> None:
    findings = checked(base, base, ctx)
    rows = findings.tables["base_candidates"].rows
    assert {row[0] for row in rows} == set(TRAIT.candidates)
    place = [row[0] for row in rows].index("owl") + 1
    assert findings.remarks[0].startswith(f"owl is number {place} of 4 candidates on the base model (share ")


def test_a_stereotype_is_checked_by_the_same_rules(base: ModelRef, tmp_path: Path) -> None:
    pairs = [{"subject": "owl", "stereotype": "she", "anti_stereotype": "he"}]
    trait = Stereotype(Stereotype.Config.model_validate({"pairs": pairs}))
    ctx = context(tmp_path, trait=trait, generator=Lists())
    findings = checked(base, base, ctx)
    (problem,) = findings.problems
    assert "the teacher hardly prefers stereotype: its share among two opposites is" in problem
    assert findings.measures["strength"].value == 0
    assert findings.measures["valid"] == findings.measures["base_valid"]
    assert set(findings.tables) == {"carrier_answers"}
