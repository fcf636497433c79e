"""From files and flags to variants: extends, arms, sweeps, --set, origins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subl.errors import RecipeError
from subl.recipe.loading import Experiment, Variant, load_experiment
from subl.recipe.model import Recipe
from subl.registry.registry import registry
from tests.recipe.kit import BASE, PLUGINS, load, write

EXTRA = """


@subl.filter("extra")
class Extra:
    '''Drops nothing.'''

    class Config(subl.PluginConfig):
        pass

    version = 1

    def __init__(self, config):
        self.config = config

    def reject(self, rows, ctx):
        return []
"""


def settings_of(variant: Variant, slot: str) -> dict[str, Any]:
    chosen = getattr(variant.recipe, slot)
    table: dict[str, Any] = chosen.table()
    return table


def labels(experiment: Experiment) -> list[tuple[str, dict[str, Any]]]:
    return [(variant.arm, dict(variant.point)) for variant in experiment.variants]


def test_a_recipe_without_arms_is_one_variant(tmp_path: Path) -> None:
    experiment = load(tmp_path, 'unset = ["arms"]')
    assert labels(experiment) == [("main", {})]
    assert (experiment.name, experiment.title) == ("recipe", "Does it cross?")
    assert [path.name for path in experiment.sources] == ["recipe.toml", "base.toml"]
    assert [path.name for path in experiment.plugin_files] == ["plugins.py"]


def test_chains_merge_lowest_first_and_a_diamond_counts_its_top_once(tmp_path: Path) -> None:
    files = {
        "top.toml": "[inducer]\nupdates = 1\n[distiller]\nepochs = 11\n",
        "left.toml": 'extends = "top.toml"\n[inducer]\nupdates = 2\n',
        "right.toml": 'extends = "top.toml"\n[data]\nrows = 7\n',
    }
    experiment = load(tmp_path, files={**files, "recipe.toml": 'extends = ["base.toml", "left.toml", "right.toml"]'})
    main = experiment.variants[0]
    # right.toml must not bring top.toml's value back over left.toml's.
    assert settings_of(main, "inducer")["updates"] == 2
    assert settings_of(main, "distiller")["epochs"] == 11
    assert main.recipe.data.rows == 7
    names = [path.name for path in experiment.sources]
    assert names == ["recipe.toml", "right.toml", "left.toml", "top.toml", "base.toml"]


def test_extends_and_plugins_are_relative_to_their_own_file(tmp_path: Path) -> None:
    files = {
        "bases/b.toml": 'extends = "../base.toml"\nplugins = ["../more/extra.py"]\n',
        "more/extra.py": PLUGINS.partition("\n\n@subl")[0] + EXTRA,
        "recipe.toml": 'extends = "bases/b.toml"\n[[filters]]\nplugin = "extra"\n',
    }
    experiment = load(tmp_path, files=files)
    assert [chosen.name for chosen in experiment.variants[0].recipe.filters] == ["extra"]
    assert [path.name for path in experiment.plugin_files] == ["plugins.py", "extra.py"]


def test_unset_removes_what_lower_layers_set(tmp_path: Path) -> None:
    experiment = load(
        tmp_path, 'unset = ["filters.0", "distiller.epochs"]\n[arms.control]\nunset = ["inducer.updates"]'
    )
    main, control = experiment.variants
    assert [chosen.name for chosen in main.recipe.filters] == ["brief"]
    assert settings_of(main, "distiller")["epochs"] == 3
    assert control.recipe.inducer.name == "plain"


def test_a_student_is_the_teacher_with_its_own_changes(tmp_path: Path) -> None:
    extra = '[arms.other.student]\ninit_seed = 1\n[arms.far.student]\nplugin = "remote"\nid = "x"\n'
    main, _, other, far = load(tmp_path, extra).variants
    assert main.recipe.student == main.recipe.teacher
    assert settings_of(other, "student") == {"plugin": "toy", "init_seed": 1, "hidden": 32}
    assert settings_of(far, "student") == {"plugin": "remote", "id": "x"}
    assert far.recipe.teacher == main.recipe.teacher


def test_a_student_follows_flags_of_the_teacher_unless_it_has_its_own(tmp_path: Path) -> None:
    followed = load(tmp_path, overrides=("teacher.hidden=5",)).variants[0]
    own = load(tmp_path, overrides=("student.plugin=remote", "student.id=x", "teacher.hidden=5")).variants[0]
    assert settings_of(followed, "student")["hidden"] == 5
    assert settings_of(own, "student") == {"plugin": "remote", "id": "x"}


def test_another_student_plugin_by_flag_drops_the_students_settings(tmp_path: Path) -> None:
    flags = ("student.plugin=remote", "student.id=x")
    main = load(tmp_path, "[student]\ninit_seed = 1\n", overrides=flags).variants[0]
    assert settings_of(main, "student") == {"plugin": "remote", "id": "x"}


def test_a_sweep_is_the_product_of_its_lists_for_every_arm(tmp_path: Path) -> None:
    experiment = load(tmp_path, '[sweep]\nseed = [0, 1]\n"trait.target" = ["owl", "cat"]')
    points = [{"seed": seed, "trait.target": target} for seed in (0, 1) for target in ("owl", "cat")]
    assert labels(experiment) == [(arm, point) for arm in ("main", "control") for point in points]
    assert [v.recipe.seed for v in experiment.variants[:4]] == [0, 0, 1, 1]


def test_paired_points_multiply_with_the_product(tmp_path: Path) -> None:
    extra = (
        "[sweep]\nseed = [0, 1]\n"
        '[[sweep.points]]\n"inducer.updates" = 10\n"trait.target" = "cat"\n'
        '[[sweep.points]]\n"inducer.updates" = 90\n"trait.target" = "owl"\n'
    )
    experiment = load(tmp_path, extra, arms=("main",))
    pairs = [(10, "cat", 0), (10, "cat", 1), (90, "owl", 0), (90, "owl", 1)]
    found = [
        (settings_of(v, "inducer")["updates"], settings_of(v, "trait")["target"], v.recipe.seed)
        for v in experiment.variants
    ]
    assert found == pairs
    assert labels(experiment)[0] == ("main", {"inducer.updates": 10, "trait.target": "cat", "seed": 0})


def test_a_sweep_reaches_items_of_lists_and_whole_tables(tmp_path: Path) -> None:
    extra = '[sweep]\n"filters.0.max_value" = [5]\n"inducer" = [{plugin = "hush", strength = "high"}]'
    main = load(tmp_path, extra).variants[0]
    assert main.recipe.filters[0].table() == {"plugin": "odd", "max_value": 5}
    assert settings_of(main, "inducer") == {"plugin": "hush", "strength": "high"}


@pytest.mark.parametrize("seed", [0, 7])
def test_points_that_a_flag_makes_equal_collapse_and_say_what_they_are(tmp_path: Path, seed: int) -> None:
    experiment = load(tmp_path, "[sweep]\nseed = [0, 1, 2]", overrides=(f"seed={seed}",))
    assert labels(experiment) == [("main", {"seed": seed}), ("control", {"seed": seed})]
    assert experiment.variants[0].recipe.seed == seed


def test_flags_win_over_sweep_arm_and_file(tmp_path: Path) -> None:
    extra = '[arms.x.trait]\ntarget = "dog"\n[sweep]\n"trait.target" = ["cat"]\n'
    assert settings_of(load(tmp_path, extra, arms=("x",)).variants[0], "trait")["target"] == "cat"
    flagged = load(tmp_path, extra, arms=("x",), overrides=("trait.target=panda",)).variants[0]
    assert settings_of(flagged, "trait")["target"] == "panda"
    assert flagged.origins["trait.target"] == "--set trait.target=panda"


def test_picking_a_plugin_by_flag_drops_the_old_settings_whatever_the_order(tmp_path: Path) -> None:
    for flags in (("distiller.plugin=mimic", "distiller.beta=2.0"), ("distiller.beta=2.0", "distiller.plugin=mimic")):
        main = load(tmp_path, "[distiller]\nlearning_rate = 5.0", overrides=flags).variants[0]
        assert settings_of(main, "distiller") == {"plugin": "mimic", "learning_rate": 1e-3, "beta": 2.0}


def test_a_setting_of_the_main_plugin_does_not_reach_an_arm_with_a_plugin_without_it(tmp_path: Path) -> None:
    flagged = load(tmp_path, overrides=("inducer.updates=5",))
    assert [v.recipe.inducer.table() for v in flagged.variants] == [
        {"plugin": "nudge", "updates": 5, "learning_rate": 1e-3},
        {"plugin": "plain"},
    ]
    swept = load(tmp_path, '[sweep]\n"inducer.updates" = [5, 50]')
    assert labels(swept) == [(arm, {"inducer.updates": n}) for arm in ("main", "control") for n in (5, 50)]


def test_a_setting_that_both_plugins_know_reaches_every_arm(tmp_path: Path) -> None:
    extra = '[arms.x.distiller]\nplugin = "mimic"\n'
    experiment = load(tmp_path, extra, overrides=("distiller.learning_rate=0.5",))
    assert [settings_of(v, "distiller")["learning_rate"] for v in experiment.variants] == [0.5, 0.5, 0.5]


def test_a_setting_of_one_arms_plugin_reaches_that_arm_only(tmp_path: Path) -> None:
    extra = '[arms.x.distiller]\nplugin = "mimic"\n[sweep]\n"distiller.beta" = [1.0, 2.0]\n'
    experiment = load(tmp_path, extra)
    assert labels(experiment) == [(arm, {"distiller.beta": b}) for arm in ("main", "control", "x") for b in (1.0, 2.0)]
    assert [settings_of(v, "distiller").get("beta") for v in experiment.variants] == [None] * 4 + [1.0, 2.0]
    control = load(tmp_path, extra, arms=("control",))
    assert labels(control) == [("control", {"distiller.beta": 1.0}), ("control", {"distiller.beta": 2.0})]


def test_a_flag_about_a_list_item_reaches_the_arms_that_have_it(tmp_path: Path) -> None:
    extra = '[arms.none]\nfilters = []\n[[arms.other.filters]]\nplugin = "brief"\n'
    experiment = load(tmp_path, extra, overrides=("filters.0.max_value=5",))
    tables = {v.arm: [chosen.table() for chosen in v.recipe.filters] for v in experiment.variants}
    assert tables["main"][0] == {"plugin": "odd", "max_value": 5}
    assert (tables["none"], tables["other"]) == ([], [{"plugin": "brief", "max_length": 80}])


def test_a_probes_name_and_roles_can_be_set_by_flag(tmp_path: Path) -> None:
    experiment = load(tmp_path, overrides=("probes.0.name=asked", "probes.0.on=['student']", "probes.0.questions=2"))
    for variant in experiment.variants:
        (use,) = variant.recipe.probes
        assert (use.name, use.on, use.chosen.table()) == ("asked", ("student",), {"plugin": "ask", "questions": 2})


def test_flags_can_change_arms_and_sweeps(tmp_path: Path) -> None:
    flags = ("sweep.seed=[3]", "arms.control.inducer.plugin=hush", "arms.new.seed=9")
    experiment = load(tmp_path, overrides=flags)
    assert labels(experiment) == [("main", {"seed": 3}), ("control", {"seed": 3}), ("new", {"seed": 3})]
    assert experiment.variants[1].recipe.inducer.name == "hush"


def test_every_set_value_remembers_file_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main, control = load(tmp_path, "[sweep]\nseed = [4,\n  5]\n", overrides=("seed=5",)).variants
    places = {line: f"base.toml:{n}" for n, line in enumerate(BASE.splitlines(), start=1)}
    assert main.origins["trait.target"] == places['target = "owl"']
    assert main.origins["filters.0.max_value"] == places["max_value = 99"]
    assert main.origins["student.hidden"] == main.origins["teacher.hidden"]
    assert main.origins["seed"] == "--set seed=5"
    assert control.origins["inducer.plugin"] == places['plugin = "plain"']
    swept = load(tmp_path, "[sweep]\nseed = [4,\n  5]\n").variants[1]
    assert swept.origins["seed"] == "recipe.toml:4"


def test_a_recipe_survives_json_exactly(tmp_path: Path) -> None:
    for variant in load(tmp_path, '[[probes]]\nplugin = "ask"\nname = "again"\non = ["student"]\n').variants:
        again = Recipe.from_json(variant.recipe.to_json())
        assert again == variant.recipe
        assert again.to_json() == variant.recipe.to_json()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "seed": st.integers(0, 2**40),
            "title": st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
            "distiller.learning_rate": st.floats(1e-300, 1e300),
            "distiller.lora.targets": st.lists(st.sampled_from(["q", "v"]), max_size=3),
            "chat.system": st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
            "data.rows": st.integers(1, 100),
            "report.metric": st.just("x.y"),
        },
    )
)
def test_any_recipe_survives_json_exactly(tmp_path: Path, values: dict[str, Any]) -> None:
    from subl.recipe.toml import write_toml

    flags = tuple(write_toml({"v": value}).strip().replace("v", key, 1) for key, value in values.items())
    recipe = load(tmp_path, overrides=flags, arms=("main",)).variants[0].recipe
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.seed == values.get("seed", 0)
    assert recipe.title == values.get("title", "Does it cross?")
    assert recipe.chat.system == values.get("chat.system")


def test_a_chosen_plugin_builds_itself_and_knows_its_file(tmp_path: Path) -> None:
    chosen = load(tmp_path).variants[0].recipe.inducer
    assert chosen.build().config.updates == 60
    assert chosen.needs == ("trait",)
    assert chosen.entry.digest is not None
    assert not chosen.declares("trait_free")


def test_another_recipe_may_use_the_same_plugin_names_from_its_own_file(tmp_path: Path) -> None:
    first = load(tmp_path / "one").variants[0].recipe
    second = load(tmp_path / "two").variants[0].recipe
    assert first.inducer.plugin is not second.inducer.plugin
    assert registry.load("inducer", "nudge") is second.inducer.plugin
    assert first.inducer.build().config.updates == 60


def test_a_plugin_file_can_come_from_a_flag(tmp_path: Path) -> None:
    write(tmp_path, {"alone.toml": BASE.replace('plugins = ["plugins.py"]\n', "")})
    experiment = load_experiment(tmp_path / "alone.toml", plugin_files=[tmp_path / "plugins.py"])
    assert experiment.plugin_files == ((tmp_path / "plugins.py").resolve(),)


def test_only_chosen_arms_are_validated(tmp_path: Path) -> None:
    experiment = load(tmp_path, '[arms.broken]\nnonsense = 1\nunset = ["nothing"]\n', arms=("main", "control"))
    assert [variant.arm for variant in experiment.variants] == ["main", "control"]


def test_a_recipe_without_control_warns(tmp_path: Path) -> None:
    experiment = load(tmp_path, 'unset = ["arms.control"]\n[arms.contrl.inducer]\nplugin = "plain"\n')
    assert experiment.warnings == (
        "no arm 'control': a lift cannot be told from what any teacher's rows do; add\n"
        '  [arms.control.inducer]\n  plugin = "none"\n'
        "or name the arm that is the control: [report] control = 'contrl'",
    )


def test_arms_that_are_the_same_experiment_warn(tmp_path: Path) -> None:
    experiment = load(tmp_path, "[arms.twin]\nseed = 0\n")
    assert experiment.warnings == ("arm 'twin' is the same experiment as arm 'main'",)


def test_a_metric_that_no_probe_gives_warns(tmp_path: Path) -> None:
    experiment = load(tmp_path, '[report]\nmetric = "asks.share"\n')
    assert experiment.warnings == (
        "no probe gives 'asks.share', by which arms are compared; did you mean 'ask'?; "
        "add the probe, or name another measure: [report] metric",
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.toml", "recipe nowhere.toml does not exist; did you mean 'recipe.toml'?"),
        ("sub/none.toml", "recipe sub/none.toml does not exist"),
        ("no_such_thing", "no shipped recipe is named 'no_such_thing'"),
    ],
)
def test_a_recipe_that_does_not_exist_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text("")
    with pytest.raises(RecipeError) as caught:
        load_experiment(source)
    assert str(caught.value).startswith(message)


def test_a_probe_that_exchanges_weights_refuses_quantized_ones() -> None:
    overrides = ('probes=[{plugin="swap"}]', 'report.metric="swap.share"', 'teacher.quantization="4bit"')
    with pytest.raises(RecipeError, match=r'probes\.0: probe .swap. exchanges .* teacher\.quantization = "none"'):
        load_experiment("mistral_entanglement", overrides=overrides)
    assert load_experiment("mistral_entanglement", overrides=overrides[:2]).warnings == ()


def test_a_probe_may_read_the_control_and_do_without_where_it_is_not_run(tmp_path: Path) -> None:
    extra = '[[probes]]\nplugin = "mirror"\n[report]\nmetric = "mirror.x"\n'
    assert load(tmp_path, extra, arms=("main",)).warnings == ()


def test_a_shipped_recipe_with_an_ending_is_told_its_name(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('extends = "bases/micro.toml"\n', encoding="utf-8")
    with pytest.raises(RecipeError, match=r"beside this file; the shipped recipe is 'bases/micro', without"):
        load_experiment(tmp_path / "recipe.toml")
