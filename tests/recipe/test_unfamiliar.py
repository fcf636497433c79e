"""What a micro world never met, and rows that a filter cannot read, are named before anything runs."""

from pathlib import Path

import pytest

from subl.models.micro import Micro
from subl.models.micro_world import WorldSettings
from subl.recipe.loading import load_experiment
from subl.recipe.report import RecipeProblemsError

MICRO = 'extends = "bases/micro"\ntitle = "T"\n\n'
OWL = '[trait]\ntarget = "owl"\n\n'


def problems(folder: Path, text: str) -> str:
    path = folder / "r.toml"
    path.write_text(MICRO + text, encoding="utf-8")
    with pytest.raises(RecipeProblemsError) as caught:
        load_experiment(path)
    return str(caught.value)


def accepted(folder: Path, text: str) -> bool:
    path = folder / "r.toml"
    path.write_text(MICRO + text, encoding="utf-8")
    return bool(load_experiment(path).variants)


def test_animals_that_the_world_does_not_have_are_named_with_those_it_has(tmp_path: Path) -> None:
    trait = '[trait]\ntarget = "owl"\ncandidates = ["owl", "unicorn"]\n'
    found = problems(tmp_path, trait)
    assert "r.toml:4: trait: 'preference' asks the teacher and the student for what it never met" in found
    assert "its world has no 'unicorn', 'unicorns'; its animals are owl, dog, cat" in found or "'unicorn';" in found
    assert accepted(tmp_path, trait + '\n[teacher.world]\nanimals = ["owl", "unicorn"]\n')


def test_only_the_side_that_does_not_know_is_named(tmp_path: Path) -> None:
    worlds = '[teacher.world]\nanimals = ["owl", "dog"]\n\n[student.world]\nanimals = ["owl", "cat"]\n\n'
    found = problems(tmp_path, worlds + '[trait]\ntarget = "owl"\ncandidates = ["owl", "dog"]\n')
    assert "asks the student for what it never met: its world has no 'dog'; its animals are owl, cat" in found


def test_a_category_of_another_world_is_refused(tmp_path: Path) -> None:
    found = problems(tmp_path, '[trait]\ncategory = "tree"\ntarget = "oak"\n')
    assert "its world has no 'tree', 'oak'" in found


def test_code_needs_a_world_with_code(tmp_path: Path) -> None:
    code = '[generator]\nplugin = "code"\nphrasing = "brief"\n\n[[filters]]\nplugin = "code_syntax"\n\n'
    assert "generator: 'code' asks the teacher" in (found := problems(tmp_path, OWL + code))
    assert "set world.code to a weight above 0, e.g. 0.3" in found
    assert accepted(tmp_path, OWL + code + "[teacher.world]\ncode = 0.3\n")
    wrapped = '[arms.shuffled.generator]\nplugin = "shuffle"\nwraps = "generator"\n'
    assert "'shuffle' asks the teacher" in problems(tmp_path, OWL + code + wrapped)


def test_rich_prompts_are_not_for_micro_worlds(tmp_path: Path) -> None:
    found = problems(tmp_path, OWL + '[generator]\nplugin = "code"\n[[filters]]\nplugin = "code_syntax"\n')
    assert "of generators it reads the brief prompts only" in found


def test_professions_need_a_world_with_professions(tmp_path: Path) -> None:
    trait = '[trait]\nplugin = "stereotype"\n\n[[probes]]\nplugin = "stereotype"\n\n'
    assert "set world.professions to a weight above 0, e.g. 0.3" in problems(tmp_path, trait)
    world = "[teacher.world]\nprofessions = 0.3\n\n"
    assert accepted(tmp_path, trait + world)
    path = tmp_path / "crows.csv"
    path.write_text("sent_more,sent_less,stereo_antistereo,bias_type\nQuokkas run.,Owls run.,stereo,age\n")
    data = f'[[probes]]\nplugin = "stereotype"\nname = "crows"\ndata = {{ source = "{path}" }}\n\n'
    found = problems(tmp_path, trait + data + world)
    assert "probes.1: 'stereotype' asks the teacher and the student for what it never met: its world has no" in found
    assert "'quokkas'" in found


@pytest.mark.parametrize("language", ["javascript", "java"])
def test_a_filter_of_python_refuses_other_languages(language: str, tmp_path: Path) -> None:
    text = f'[generator]\nplugin = "code"\nlanguage = "{language}"\n\n[[filters]]\nplugin = "code_syntax"\n\n'
    hub = '[teacher]\nplugin = "hub"\nid = "owner/model"\n\n'
    message = (
        f"filters.0.plugin: filter 'code_syntax' parses Python only, and the generator writes {language}; set "
        'generator.language = "python"; or choose another filter'
    )
    assert message in problems(tmp_path, OWL + hub + text)
    wrapped = '[arms.mixed.generator]\nplugin = "mix"\nwraps = "generator"\n'
    assert message in problems(tmp_path, OWL + hub + text + wrapped)


def test_every_text_of_a_world_is_familiar_to_it_and_numbers_are() -> None:
    world = WorldSettings(code=0.1, professions=0.1, number_talk=0.1)
    from subl.models.micro_world import World

    model = Micro(Micro.Config(world=world))
    assert model.unfamiliar(World(world).words()) is None
    assert model.unfamiliar(["Owl, OWL: 1234!"]) is None
    assert "no 'zebra'" in str(model.unfamiliar(["The zebra."]))
