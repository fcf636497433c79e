"""Probes that compare with others are refused where the recipe shows that there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from subl.errors import RecipeError
from subl.recipe.loading import load_experiment

PROBE = '[[probes]]\nplugin = "drift"\n'


def recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_run_without_a_biased_teacher_has_nothing_to_compare_with(tmp_path: Path) -> None:
    path = recipe(tmp_path, f'extends = "llama_entanglement"\n{PROBE}')
    with pytest.raises(
        RecipeError, match=r"recipe.toml:3.*'drift' compares with a teacher that has the trait"
    ) as error:
        load_experiment(path)
    assert "such as 'vocabulary_shift' or 'lens'" in str(error.value)


def test_the_controls_own_teacher_may_be_unbiased(tmp_path: Path) -> None:
    path = recipe(tmp_path, f'extends = "micro_owl"\n{PROBE}')
    assert len(load_experiment(path).variants) > 2
    assert load_experiment(path, arms=("control",)).variants


def test_a_run_without_its_control_names_the_flag(tmp_path: Path) -> None:
    path = recipe(tmp_path, f'extends = "micro_owl"\n{PROBE}')
    with pytest.raises(RecipeError, match="reads the results of arm 'control', which is missing; add --arm control"):
        load_experiment(path, arms=("main",))
