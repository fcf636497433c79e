"""The shipped recipes: all of them validate, and names find them."""

from __future__ import annotations

from pathlib import Path

import pytest

from subl.errors import RecipeError
from subl.recipe import shipped
from subl.recipe.loading import load_experiment
from subl.recipe.model import Recipe

FILES = sorted(shipped.root().rglob("*.toml"))
# Files in sub-folders are there to be extended; alone they need not be whole.
TO_RUN = [path for path in FILES if path.parent == shipped.root()]


def test_there_are_shipped_recipes_and_their_names_are_the_files() -> None:
    assert TO_RUN
    assert shipped.names() == [path.stem for path in TO_RUN]
    assert {shipped.locate(name) for name in shipped.all_names()} == set(FILES)


@pytest.mark.parametrize("path", TO_RUN, ids=shipped.name_of)
def test_a_shipped_recipe_validates_without_warnings_and_survives_json(path: Path) -> None:
    experiment = load_experiment(path.stem)
    assert experiment.warnings == ()
    assert experiment.title
    assert experiment.variants[0].recipe.needs, "what machine it takes"
    for variant in experiment.variants:
        assert Recipe.from_json(variant.recipe.to_json()) == variant.recipe


@pytest.mark.parametrize("path", [path for path in FILES if path not in TO_RUN], ids=shipped.name_of)
def test_a_file_to_extend_is_used_by_a_shipped_recipe(path: Path) -> None:
    used = {source for recipe in TO_RUN for source in load_experiment(recipe).sources}
    assert path.resolve() in used


def test_an_unknown_name_is_told_what_is_alike() -> None:
    name = shipped.names()[0]
    with pytest.raises(RecipeError, match=f"did you mean '{name}'"):
        load_experiment(name + "x")
