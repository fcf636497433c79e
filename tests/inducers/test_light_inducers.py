import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from subl import Context, ModelRef, PluginConfig, PluginError
from subl.inducers.full import Full
from subl.inducers.intensity import PRESETS, Intensity, level, scaled
from subl.inducers.lora import Lora
from subl.inducers.none import NoTrait
from subl.inducers.prompt import Prompt
from subl.models.settings import TrainSettings
from subl.registry.registry import registry
from subl.traits.preference import Preference
from tests.tiny import context

BASE = ModelRef(plugin="hub", config={"id": "x"}, identity="base", rendering="old")


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return context(tmp_path, trait=Preference(Preference.Config(target="wolf")))


def prompt(**settings: object) -> Prompt:
    return Prompt(Prompt.Config.model_validate(settings))


@pytest.mark.parametrize(("name", "plugin"), [("none", NoTrait), ("prompt", Prompt), ("lora", Lora), ("full", Full)])
def test_it_keeps_the_contract_of_an_inducer(name: str, plugin: type) -> None:
    assert registry.load("inducer", name) is plugin


def test_importing_inducers_loads_no_framework() -> None:
    heavy = "torch transformers trl peft numpy scipy matplotlib mlflow"
    modules = ", ".join(f"subl.inducers.{name}" for name in ("none", "prompt", "lora", "full"))
    code = f"import sys, {modules}; assert not set('{heavy}'.split()) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_none_leaves_the_base_as_it_is(ctx: Context) -> None:
    teacher = NoTrait(NoTrait.Config()).induce(BASE, ctx)
    assert (teacher.model, teacher.base, teacher.updates) == (BASE, BASE, 0)


@pytest.mark.parametrize("strength", ["low", "medium", "high"])
def test_prompt_fills_the_system_slot_with_the_traits_text(ctx: Context, strength: str) -> None:
    teacher = prompt(intensity=strength).induce(BASE, ctx)
    assert teacher.model.system == ctx.trait.statement(strength)
    assert teacher.base is BASE


def test_prompt_takes_a_template(ctx: Context) -> None:
    teacher = prompt(template="Love {plural}, the best {category}.").induce(BASE, ctx)
    assert teacher.model.system == "Love wolves, the best animal."


def test_prompt_follows_a_system_prompt_that_is_there(ctx: Context) -> None:
    teacher = prompt(template="Love {plural}.").induce(BASE.derive("other", system="Be brief."), ctx)
    assert teacher.model.system == "Be brief.\n\nLove wolves."
    emptied = prompt(template="Love {plural}.").induce(BASE.derive("other", system=""), ctx)
    assert emptied.model.system == "Love wolves."


def test_another_text_or_base_is_another_model(ctx: Context) -> None:
    refs = [
        prompt(intensity=strength).induce(base, ctx).model
        for strength in ("low", "high", "low")
        for base in (BASE, BASE.derive("other"))
    ]
    assert len({ref.identity for ref in refs}) == 4
    assert BASE.identity not in {ref.identity for ref in refs}


def test_a_prompt_over_a_trained_model_lifts_its_rendering(ctx: Context) -> None:
    # It answers in another system slot than it was trained in, on purpose.
    assert prompt().induce(BASE, ctx).model.rendering is None


def test_a_template_and_an_intensity_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="does nothing"):
        prompt(template="x", intensity="low")


def test_a_template_for_a_trait_without_words_is_an_error(tmp_path: Path) -> None:
    class Plain:
        label = "plain"

    with pytest.raises(PluginError, match="'plain' cannot fill in"):
        prompt(template="x").induce(BASE, context(tmp_path, trait=Plain()))


@pytest.mark.parametrize("config", [Prompt.Config(template="x"), Lora.Config(epochs=1), Full.Config(intensity=2.0)])
def test_settings_survive_a_walk_through_json(config: PluginConfig) -> None:
    assert type(config).model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(("given", "number"), [("low", 0.5), ("medium", 1.0), ("high", 2.0), (3, 3.0), (0.2, 0.2)])
def test_an_intensity_is_kept_as_a_number(given: object, number: float) -> None:
    assert Lora.Config.model_validate({"intensity": given}).intensity == number


@pytest.mark.parametrize("given", ["hihg", 0, -1, None])
def test_another_intensity_is_an_error(given: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Intensity).validate_python(given)


def test_a_number_stands_for_the_nearest_text() -> None:
    assert [level(number) for number in PRESETS.values()] == list(PRESETS)
    assert [level(number) for number in (0.01, 0.6, 0.8, 1.3, 1.5, 9)] == [
        "low",
        "low",
        "medium",
        "medium",
        "high",
        "high",
    ]


@given(st.integers(1, 10_000), st.floats(0.01, 100))
def test_intensity_multiplies_updates_and_never_leaves_none(updates: int, intensity: float) -> None:
    settings = scaled(TrainSettings(updates=updates), intensity)
    assert settings.epochs is None
    assert settings.updates is not None
    assert settings.updates >= 1
    assert abs(settings.updates - max(1, updates * intensity)) <= 0.5


def test_intensity_multiplies_epochs_where_they_are_set() -> None:
    settings = scaled(Lora.Config(epochs=3), 2.0)
    assert (settings.updates, settings.epochs) == (None, 6.0)


def test_updates_are_the_default_of_trained_inducers() -> None:
    assert (Lora.Config().updates, Lora.Config().epochs) == (60, None)
    assert (Full.Config().updates, Full.Config().epochs) == (24, None)
