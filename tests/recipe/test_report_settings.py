"""[report]: contrasts and the expectation are checked with the rest of the recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from subl.recipe.analysis import analysis_digest, analysis_plan
from subl.recipe.model import Report
from tests.recipe.kit import load, problems


def test_contrasts_and_expectation_are_read(tmp_path: Path) -> None:
    extra = """
[report]
contrasts = ["main", "main  vs sft"]
smallest_effect = 0.05
[report.expectation]
contrast = "main"
threshold = 0.1
[arms.sft.distiller]
epochs = 4
"""
    report = load(tmp_path, extra).variants[0].recipe.report
    assert report.contrasts == ("main", "main vs sft")
    assert report.expectation is not None
    assert (report.expectation.direction, report.expectation.threshold) == ("above", 0.1)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ('contrasts = ["sft"]', "recipe.toml:3: report.contrasts.0: unknown arm 'sft'; known: control, main"),
        ('contrasts = ["main vs contrl"]', "report.contrasts.0: unknown arm 'contrl'; did you mean 'control'?"),
        ('contrasts = ["main vs main"]', "report.contrasts: compares 'main' with itself"),
        ('contrasts = ["main", " main"]', "report.contrasts: names 'main' twice"),
        ("smallest_effect = 0", "report.smallest_effect: should be greater than 0, not 0"),
        (
            'better = "lower"\nexpectation = {threshold = 0.1}',
            'report: expectation should name its direction where better = "lower"',
        ),
        ('expectation = {contrast = "sft"}', "report.expectation.contrast: unknown arm 'sft'"),
        ('expectation = {direction = "up"}', "report.expectation.direction: should be 'above', 'below' or 'within'"),
        ('expectation = {direction = "within"}', "report.expectation: threshold should be above 0"),
        ("expectation = {treshold = 1}", "report.expectation.treshold: unknown key; did you mean 'threshold'?"),
    ],
)
def test_what_cannot_be_judged_is_a_problem_of_the_recipe(tmp_path: Path, settings: str, expected: str) -> None:
    found = problems(tmp_path, f"\n[report]\n{settings}\n".lstrip())
    assert any(expected in line for line in found), found


def test_the_hash_changes_with_anything_that_is_judged() -> None:
    plan = analysis_plan(Report())
    assert plan["sha256"] == analysis_digest(plan) == analysis_digest(Report().model_dump(mode="json"))
    others = [Report(metric="a.b"), Report(control="x"), Report(contrasts=("main",)), Report(smallest_effect=0.1)]
    assert len({analysis_plan(other)["sha256"] for other in [Report(), *others]}) == 5


def test_a_contrast_of_arms_with_other_targets_has_no_pairs(tmp_path: Path) -> None:
    arms = """
[arms.opposite.trait]
target = "{target}"
[report]
contrasts = ["main", "opposite"]
"""
    found = load(tmp_path, arms.format(target="dog")).warnings
    assert [
        warning for warning in found if "contrast 'opposite' has no pairs: the trait of 'opposite' is 'dog'" in warning
    ]
    swept = arms.format(target="dog") + '[sweep]\n"trait.target" = ["owl", "cat"]\n'
    assert not [warning for warning in load(tmp_path, swept).warnings if "has no pairs" in warning]
