"""`wraps`: an arm's plugin takes the plugin of the layers below into its own settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from subl.errors import RecipeError
from subl.recipe.layers import merge, plain
from subl.recipe.loading import load_experiment
from subl.registry.schema import plugin_definitions
from tests.recipe.test_layers import OVER, node

RECIPE = """
extends = ["bases/micro", "controls/mix", "controls/shuffle"]
title = "Controls"
[trait]
target = "owl"
[arms.control.inducer]
plugin = "none"
[arms.both.generator]
plugin = "shuffle"
wraps = "generator"
generator = { samples = 50 }
"""


def recipe(folder: Path, text: str = RECIPE, **options: Any) -> dict[str, Any]:
    path = folder / "own.toml"
    path.write_text(text, encoding="utf-8")
    found = load_experiment(path, **options).variants
    return {variant.arm: variant.recipe.generator.config for variant in found}


def test_a_replaced_table_goes_under_the_field_that_wraps_it() -> None:
    base = node({"plugin": "a", "x": 1, "y": {"z": 2}})
    over = node({"plugin": "b", "wraps": "inner", "w": 3}, OVER)
    assert plain(merge(base, over)) == {"plugin": "b", "w": 3, "inner": {"plugin": "a", "x": 1, "y": {"z": 2}}}
    changed = node({"plugin": "b", "wraps": "inner", "inner": {"x": 5}}, OVER)
    assert plain(merge(base, changed)) == {"plugin": "b", "inner": {"plugin": "a", "x": 5, "y": {"z": 2}}}
    twice = merge(merge(base, over), node({"plugin": "c", "wraps": "inner"}, OVER))
    assert plain(twice)["inner"]["inner"]["plugin"] == "a"  # type: ignore[index,call-overload]


def test_a_control_has_all_settings_of_the_generator_that_it_wraps(tmp_path: Path) -> None:
    found = recipe(tmp_path)
    assert [found[arm].neutral for arm in ("mix_25", "mix_50", "mix_75")] == [0.25, 0.5, 0.75]
    for arm in ("mix_25", "shuffle_within", "shuffle_across"):
        assert found[arm].generator.config == found["main"] == found["control"]
    assert found["both"].generator.config == found["main"].model_copy(update={"samples": 50})


def test_a_flag_and_a_sweep_reach_the_wrapped_generator_too(tmp_path: Path) -> None:
    found = recipe(tmp_path, overrides=["generator.samples=70", "generator.sampling.temperature=0.5"])
    assert {config.samples for config in found.values()} == {70}
    assert {
        getattr(config, "generator", None) and config.generator.config.sampling.temperature for config in found.values()
    } == {None, 0.5}
    swept = recipe(tmp_path, RECIPE + "[sweep]\n'generator.samples' = [60]\n'generator.how' = ['across']\n")
    assert {config.samples for config in swept.values()} == {60}
    assert swept["shuffle_within"].how == "across"


def test_nothing_to_wrap_is_an_error(tmp_path: Path) -> None:
    text = RECIPE.replace('plugin = "shuffle"\nwraps', 'plugin = "numbers"\nwraps')
    with pytest.raises(RecipeError, match=r"own\.toml:\d+.*wraps: there is nothing to wrap"):
        recipe(tmp_path, text)


def test_editors_know_where_a_plugin_may_be_put() -> None:
    definitions = plugin_definitions()
    assert definitions["generator.mix"]["properties"]["wraps"]["enum"] == ["generator"]
    assert "wraps" not in definitions["generator.numbers"]["properties"]
    assert "wraps" not in definitions["generator.entangled_numbers"]["properties"]
