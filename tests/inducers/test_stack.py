"""Inducers on each other: in a recipe, in fingerprints, and in the teacher that comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from subl import Context, ModelRef, Teacher
from subl.errors import RecipeError
from subl.inducers.prompt import Prompt
from subl.inducers.stack import Stack
from subl.recipe.loading import Experiment, load_experiment
from subl.registry.schema import plugin_definitions
from subl.registry.slots import Chosen, Use
from subl.run.estimates import work
from subl.run.plan import build_plan
from subl.traits.preference import Preference
from tests.tiny import context

BASE = ModelRef(plugin="hub", config={"id": "x"}, identity="base")
TRAIT = Preference(Preference.Config(target="wolf"))
PARTS = """\
[[inducer.of]]
plugin = "lora"
updates = 6
[[inducer.of]]
plugin = "prompt"
"""


def chosen(*parts: dict[str, Any], **settings: Any) -> Chosen:
    return Use("inducer").choose({"plugin": "stack", "of": list(parts), **settings})


def experiment(folder: Path, parts: str = PARTS, head: str = "", tail: str = "", **options: Any) -> Experiment:
    path = folder / "own.toml"
    text = f'extends = "smoke"\n[inducer]\nplugin = "stack"\n{head}{parts}{tail}'
    path.write_text(text, encoding="utf-8")
    return load_experiment(path, **options)


def test_each_goes_on_from_the_one_before(tmp_path: Path) -> None:
    ctx = context(tmp_path, trait=TRAIT)
    stack = chosen({"plugin": "prompt", "template": "Be brief."}, {"plugin": "prompt", "template": "Love {plural}."})
    teacher = stack.build().induce(BASE, ctx)
    first = Prompt(Prompt.Config(template="Be brief.")).induce(BASE, ctx)
    second = Prompt(Prompt.Config(template="Love {plural}.")).induce(first.model, ctx)
    assert teacher.model == second.model
    assert teacher.model.system == "Be brief.\n\nLove wolves."
    assert teacher.base is BASE


def test_each_has_folders_of_its_own_and_updates_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Path, Path, int]] = []

    def trained(self: Any, base: ModelRef, ctx: Context) -> Teacher:
        seen.append((ctx.out, ctx.work, ctx.seed))
        (ctx.out / "adapter").mkdir()
        return Teacher(base.derive(f"{base.identity}+", adapters=(*base.adapters, ctx.out / "adapter")), base, 5)

    monkeypatch.setattr("subl.inducers.lora.Lora.induce", trained)
    ctx = context(tmp_path, trait=TRAIT, seed=3)
    teacher = chosen({"plugin": "lora"}, {"plugin": "lora", "updates": 2}).build().induce(BASE, ctx)
    assert (teacher.updates, teacher.model.identity) == (10, "base++")
    assert len({out for out, _, _ in seen} | {work for _, work, _ in seen}) == 4
    assert {seed for _, _, seed in seen} == {3}


def test_a_stack_needs_and_declares_what_its_inducers_do() -> None:
    trained, told = chosen({"plugin": "lora"}, {"plugin": "full"}), chosen({"plugin": "lora"}, {"plugin": "prompt"})
    assert trained.needs == told.needs == ("trait",)
    assert told.declares("sets_system")
    assert not trained.declares("sets_system")
    assert not told.declares("trait_free")


def test_every_setting_and_the_order_count_in_the_fingerprint() -> None:
    keys = [
        repr(chosen(*parts).key())
        for parts in (
            ({"plugin": "lora"}, {"plugin": "prompt"}),
            ({"plugin": "prompt"}, {"plugin": "lora"}),
            ({"plugin": "lora", "updates": 61}, {"plugin": "prompt"}),
            ({"plugin": "lora"}, {"plugin": "prompt", "intensity": "high"}),
        )
    ]
    assert len(set(keys)) == 4
    assert "'version': 1" in keys[0]


def test_one_intensity_reaches_all(tmp_path: Path) -> None:
    stack = chosen({"plugin": "lora", "updates": 6}, {"plugin": "prompt"}, intensity="high")
    assert isinstance(stack.config, Stack.Config)
    assert [part.config.model_dump()["intensity"] for part in stack.config.parts()] == [2.0, 2.0]
    teacher = Prompt(Prompt.Config(intensity="high")).induce(BASE, context(tmp_path, trait=TRAIT))
    two = chosen({"plugin": "prompt"}, {"plugin": "prompt"}, intensity="high").build()
    assert two.induce(BASE, context(tmp_path, trait=TRAIT)).model.system == "\n\n".join(
        [teacher.model.system or ""] * 2
    )


def test_a_recipe_sweeps_the_whole_stack_or_one_of_it(tmp_path: Path) -> None:
    found = experiment(tmp_path, tail='[sweep]\n"inducer.intensity" = ["low", "high"]\n')
    plans = build_plan(found).variants
    stages = [plan.find("induce") for plan in plans if plan.variant.arm == "main"]
    assert [work(stage, plans[0].variant.recipe) for stage in stages if stage] == [3, 12]
    one = experiment(tmp_path, overrides=["inducer.of.0.intensity=3"])
    main = build_plan(one).variants[0]
    stage = main.find("induce")
    assert stage is not None
    assert work(stage, main.variant.recipe) == 18
    assert one.variants[0].recipe == type(one.variants[0].recipe).from_json(one.variants[0].recipe.to_json())


@pytest.mark.parametrize(
    ("parts", "head", "tail", "message"),
    [
        (PARTS.replace("updates", "updtes"), "", "", r"own\.toml:6: inducer\.of\.0\.updtes: unknown key"),
        (PARTS.replace('"prompt"', '"promt"'), "", "", r"own\.toml:8: inducer\.of\.1\.plugin: unknown inducer 'promt'"),
        (PARTS.replace('"prompt"', '"none"'), "", "", r"own\.toml:2: inducer: of\.1: 'none' leaves the model as it is"),
        ('[[inducer.of]]\nplugin = "lora"\n', "", "", r"own\.toml:2: inducer: a stack is of two inducers at least"),
        ("", "", "", r"own\.toml:3: inducer\.of: missing"),
        (PARTS + "intensity = 2.0\n", "intensity = 1.0\n", "", r"of\.1: has an intensity of its own"),
        (
            PARTS + 'template = "x"\n',
            "intensity = 2.0\n",
            "",
            "'prompt' cannot have the intensity of the stack: .*nothing",
        ),
        (
            PARTS,
            "",
            '[chat]\ngeneration_system = "x"\n',
            r"own\.toml:10: chat\.generation_system: inducer 'stack' puts",
        ),
    ],
)
def test_mistakes_are_shown_where_they_are(parts: str, head: str, tail: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        experiment(tmp_path, parts, head, tail)


def test_editors_know_the_inducers_of_a_stack() -> None:
    listed = plugin_definitions()["inducer.stack"]["properties"]["of"]
    assert "inducer" in repr(listed["items"])
