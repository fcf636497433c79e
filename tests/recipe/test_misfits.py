"""What a recipe asks of layers and heads that its models do not have fails in `subl validate`, at its line."""

import json
from pathlib import Path

import pytest

from subl.recipe.loading import load_experiment
from subl.recipe.report import RecipeProblemsError

RECIPE = """extends = "smoke"
title = "Too deep"

[student]
{student}
[distiller]
plugin = "shd"
updates = 1
{distiller}

[[probes]]
plugin = "attention"
student_layers = [3]
"""


def problems(folder: Path, student: str, distiller: str) -> list[str]:
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(student=student, distiller=distiller))
    with pytest.raises(RecipeProblemsError) as caught:
        load_experiment(path.name)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


@pytest.mark.parametrize(
    ("student", "distiller", "expected"),
    [
        (
            "layers = 3",
            "student_layers = [0, 2]\nteacher_layers = [1, 2]",
            [
                "recipe.toml:10: distiller.teacher_layers: teacher_layers asks for layer 2, but the teacher has 2, 0 "
                "to 1"
            ],
        ),
        (
            "layers = 3\nheads = 1\nkv_heads = 1",
            "shuffle_heads = true",
            [
                "recipe.toml:11: distiller.shuffle_heads: shuffle_heads needs at least two squeezed heads, and there "
                "is one; remove it"
            ],
        ),
        (
            "layers = 3\nheads = 16\nkv_heads = 16\n[teacher]\nheads = 1\nkv_heads = 1",
            'merge = "joint"',
            [
                "recipe.toml:14: distiller.merge: merge 'joint' takes at most 8 heads into one, but 16 → 1 needs 16; "
                "use merge 'progressive'"
            ],
        ),
    ],
)
def test_micro_models_are_known_from_their_settings(
    student: str, distiller: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = problems(tmp_path, student, distiller)
    # `student` starts as a copy of `teacher`, so that the probe's mistake is always the last.
    assert found[:-1] == expected
    assert "probes.0.student_layers: student_layers asks for layer 3, but the student has 3, 0 to 2" in found[-1]


def test_folders_are_known_from_their_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model"
    model.mkdir()
    sizes = {"num_hidden_layers": 3, "num_attention_heads": 8}
    for config in (sizes, {"text_config": sizes}):
        (model / "config.json").write_text(json.dumps(config))
        found = problems(tmp_path, 'plugin = "hub"\nid = "./model"', "student_layers = [3]")
        assert "student_layers asks for layer 3, but the student has 3" in found[0]
        assert len(found) == 2
    # What no config tells is left to the run.
    (model / "config.json").write_text("{}")
    (tmp_path / "recipe.toml").write_text(
        (tmp_path / "recipe.toml").read_text().replace("student_layers = [3]", "student_layers = [77]")
    )
    assert load_experiment("recipe.toml").variants


def test_probes_refuse_parts_that_no_model_of_the_recipe_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = 'extends = "smoke"\n[[probes]]\nplugin = "swap"\nlayers = [[0, {last}]]\n'
    text += '[[probes]]\nplugin = "prune"\nheads = [[1, 0], [{last}, 0]]\n'
    (tmp_path / "recipe.toml").write_text(text.format(last=7))
    with pytest.raises(RecipeProblemsError) as caught:
        load_experiment("recipe.toml")
    found = str(caught.value)
    assert "recipe.toml:4: probes.0.layers: layers holds [0, 7], and the blocks are 0 to 1; name others" in found
    assert "recipe.toml:7: probes.1.heads: heads holds [7, 0], and there are layers 0 to 1 of heads 0 to" in found
    (tmp_path / "recipe.toml").write_text(text.format(last=0).replace("[1, 0], ", ""))
    assert load_experiment("recipe.toml").variants


def test_shifts_of_models_of_another_depth_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = 'extends = "smoke"\n[student]\nlayers = {layers}\n[[probes]]\nplugin = "drift"\n'
    (tmp_path / "recipe.toml").write_text(text.format(layers=3))
    with pytest.raises(
        RecipeProblemsError, match=r"recipe.toml:5: probes.0.plugin: probe 'drift' compares activations"
    ):
        load_experiment("recipe.toml")
    (tmp_path / "recipe.toml").write_text(text.format(layers=2))
    assert load_experiment("recipe.toml").variants
