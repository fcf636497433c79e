"""The light commands, run as a user runs them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomli

import subl
from subl.cli import main
from subl.recipe.loading import load_experiment
from tests.recipe.kit import BASE, write

SHIPPED = """\
#:schema recipe.schema.json
# Does it cross between toys?
# Takes a second.
#
# A longer story.
extends = [ "bases/toy.toml",  # the models
            "micro_b" ]
time = "a second"

[inducer]
updates = 7  # few
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    write(tmp_path, {"base.toml": BASE})
    monkeypatch.chdir(tmp_path)
    return "base.toml"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """An installation as the wheel makes it, with recipes of our own, and an empty folder to work in."""
    package = tmp_path / "site" / "subl"
    shutil.copytree(Path(subl.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__", "_recipes"))
    write(
        package / "_recipes",
        {
            "bases/toy.toml": BASE.replace("plugins.py", "../plugins.py"),
            "micro_a.toml": SHIPPED,
            "micro_b.toml": 'title = "Inherited title"\nneeds = "CPU, 1 MB"\nplugins = ["plugins.py"]\n',
        },
    )
    (tmp_path / "work").mkdir()
    return tmp_path


def run_installed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "subl", *arguments]
    env = {"PYTHONPATH": str(folder / "site")}
    return subprocess.run(command, cwd=folder / "work", env=env, capture_output=True, text=True, check=False)


def test_validate_says_ok_with_variants_and_arms(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", recipe, "--set", "sweep.seed=[0, 1, 2]"]) == 0
    assert capsys.readouterr() == ("ok: base.toml: 6 variants, arms main, control\n", "")
    assert main(["validate", recipe, "--arm", "main"]) == 0
    assert capsys.readouterr().out == "ok: base.toml: 1 variant, arm main\n"


def test_validate_prints_warnings_and_still_succeeds(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", recipe, "--set", "report.metric=no.share"]) == 0
    assert capsys.readouterr().err.startswith("warning: base.toml: no probe gives 'no.share'")


def test_validate_checks_every_recipe_and_exits_2_for_any_bad_one(
    recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.toml").write_text('extends = "base.toml"\nsede = 1\n')
    Path("worse.toml").write_text("x = = 1\n")
    assert main(["validate", "bad.toml", recipe, "worse.toml", "bse.toml"]) == 2
    out, err = capsys.readouterr()
    assert out == "ok: base.toml: 2 variants, arms main, control\n"
    assert err == (
        "error: bad.toml has 1 problem\n"
        "  bad.toml:2: sede: unknown key; did you mean 'seed'?\n"
        "error: worse.toml has 1 problem\n"
        "  worse.toml:1:5: invalid value\n"
        "error: recipe bse.toml does not exist; did you mean 'base.toml'?\n"
    )


def test_validate_as_json_lists_problems_with_places(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.toml").write_text('extends = "base.toml"\nsede = 1\n')
    assert main(["validate", "bad.toml", recipe, "none.toml", "--json", "--set", "seed=4"]) == 2
    out, err = capsys.readouterr()
    bad, good, none = json.loads(out)
    assert bad["problems"] == [
        {"where": "bad.toml", "line": 2, "key": "sede", "message": "unknown key; did you mean 'seed'?"}
    ]
    assert (bad["ok"], bad["variants"]) == (False, [])
    assert good == {
        "recipe": "base.toml",
        "ok": True,
        "variants": [{"arm": "main", "point": {}}, {"arm": "control", "point": {}}],
        "warnings": [],
        "problems": [],
    }
    assert none["problems"][0]["message"].startswith("recipe none.toml does not exist")
    assert err == ""


def test_validate_takes_a_plugin_file(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("alone.toml").write_text(BASE.replace('plugins = ["plugins.py"]', ""))
    assert main(["validate", "alone.toml"]) == 2
    assert "unknown model 'toy'" in capsys.readouterr().err
    assert main(["validate", "alone.toml", "--plugin", "plugins.py"]) == 0


def test_show_prints_a_recipe_that_is_the_same_experiment(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--set", "sweep.seed=[3, 4]", "--arm", "control", "--point", "1"]
    assert main(["show", recipe, *flags]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# base: arm control, point 1 of 2, seed = 4\n")
    Path("frozen.toml").write_text(text)
    (frozen,) = load_experiment("frozen.toml").variants
    shown = load_experiment(recipe, overrides=["sweep.seed=[3, 4]"], arms=["control"]).variants[1]
    assert frozen.recipe.to_json() == shown.recipe.to_json()


def test_show_says_where_each_value_was_set(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", recipe, "--origins", "--set", "trait.target=cat"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 'target = "cat"  # --set trait.target=cat' in lines
    assert "hidden = 32  # base.toml:6" in lines
    assert "seed = 0  # default" in lines
    assert 'on = ["base", "teacher", "student"]  # default' in lines
    assert all("  # " in line for line in lines if " = " in line and not line.startswith(("plugins", "#")))


def test_show_as_json_holds_recipe_point_and_origins(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", recipe, "--json", "--origins", "--set", "sweep.seed=[3]"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["name"], shown["arm"], shown["point"]) == ("base", "main", {"seed": 3})
    assert shown["recipe"]["inducer"] == {"plugin": "nudge", "updates": 60, "learning_rate": 1e-3}
    assert shown["origins"]["seed"] == "--set sweep.seed=[3]"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--point", "5"], "error: arm 'main' has no sweep point 5; its points are 0 to 0"),
        (["--arm", "contrl"], "did you mean 'control'?"),
    ],
)
def test_show_refuses_what_is_not_there(
    recipe: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["show", recipe, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_plugins_are_listed_with_origin_whole_in_a_pipe(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "list", "filter", "--plugin", "plugins.py"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.split(r"  +", lines[0]) == ["kind", "name", "source", "from"]
    rows = {tuple(re.split(r"  +", line)) for line in lines[1:]}
    assert ("filter", "odd", "local", str(Path("plugins.py").resolve())) in rows
    assert ("filter", "no_text", "built-in", "subl") in rows
    assert {row[0] for row in rows} == {"filter"}


def test_plugins_are_listed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"kind", "name", "source", "where", "target"} == set(listed[0])
    assert {"model", "trait", "inducer", "generator", "filter", "distiller", "probe"} == {row["kind"] for row in listed}


def test_a_plugin_is_shown_with_settings_and_a_table_that_works(
    recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins", "show", "distiller", "copy", "--plugin", "plugins.py"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("distiller copy, version 1, from ")
    assert "plugins.py:" in out
    assert "Trains on rows." in out
    assert re.search(r"^epochs +whole number ≥ 1 +3 +Passes\.$", out, re.MULTILINE)
    assert re.search(r'^lora\.targets +"all" or list of text +"all" +Layers\.$', out, re.MULTILINE)
    table = out[out.index("[distiller]") :]
    assert tomli.loads(table) == {"distiller": {"plugin": "copy"}}
    assert tomli.loads(table.replace("# ", ""))["distiller"]["epochs"] == 3


def test_a_plugins_required_settings_are_blanks_in_its_table(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "show", "model", "remote", "--plugin", "plugins.py"]) == 0
    assert capsys.readouterr().out.endswith('[teacher]\nplugin = "remote"\nid = "…"  # required: text\n')


def test_a_plugin_is_shown_as_json(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "show", "generator", "digits", "--plugin", "plugins.py", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    settings = {setting["name"]: setting for setting in shown["settings"]}
    assert settings["batch_size"] == {
        "name": "batch_size",
        "type": "whole number",
        "default": 8,
        "required": False,
        "runtime": True,
        "doc": "Rows at once.",
    }
    assert shown["doc"] == "Writes digits."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "filtre"], "error: unknown kind 'filtre'; did you mean 'filter'?\n"),
        (["show", "filters", "x"], "error: unknown kind 'filters'; did you mean 'filter'?\n"),
        (["show", "filter", "no_texts"], "error: unknown filter 'no_texts'; did you mean 'no_text'?\n"),
        (["list", "--plugin", "none.py"], "error: plugin file"),
    ],
)
def test_unknown_plugins_and_kinds_get_a_suggestion(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["plugins", *arguments]) == 2
    assert capsys.readouterr().err.startswith(message)


def test_an_installation_lists_its_recipes_with_what_they_say_of_themselves(installed: Path) -> None:
    done = run_installed(installed, "recipes", "list", "--json")
    assert json.loads(done.stdout) == [
        {
            "name": "micro_a",
            "title": "Inherited title",
            "needs": "CPU, 1 MB",
            "time": "a second",
            "about": "Does it cross between toys? Takes a second.",
            "path": str(installed / "site/subl/_recipes/micro_a.toml"),
        },
        {
            "name": "micro_b",
            "title": "Inherited title",
            "needs": "CPU, 1 MB",
            "time": "",
            "about": "",
            "path": str(installed / "site/subl/_recipes/micro_b.toml"),
        },
    ]
    text = run_installed(installed, "recipes", "list").stdout
    assert "micro_a  Inherited title  CPU, 1 MB  a second" in text


def test_an_installation_validates_its_recipes_by_name_from_anywhere(installed: Path) -> None:
    done = run_installed(installed, "validate", "micro_a")
    assert (done.returncode, done.stdout) == (0, "ok: micro_a: 2 variants, arms main, control\n")


def test_a_shipped_recipe_is_shown_as_it_is(installed: Path) -> None:
    assert run_installed(installed, "recipes", "show", "micro_a").stdout == SHIPPED


def test_a_copied_recipe_keeps_its_comments_and_is_the_same_experiment(installed: Path) -> None:
    done = run_installed(installed, "recipes", "copy", "micro_a", "mine.toml")
    assert (done.returncode, done.stdout) == (0, "wrote mine.toml; try: subl validate mine.toml\n")
    copy = (installed / "work" / "mine.toml").read_text()
    assert copy == SHIPPED.replace("bases/toy.toml", "bases/toy")
    shown = [json.loads(run_installed(installed, "show", name, "--json").stdout) for name in ("micro_a", "mine.toml")]
    assert shown[0]["recipe"] == shown[1]["recipe"]


def test_a_copied_recipe_finds_its_plugin_files(installed: Path) -> None:
    assert run_installed(installed, "recipes", "copy", "micro_b").returncode == 0
    copied = tomli.loads((installed / "work" / "micro_b.toml").read_text())
    assert copied["plugins"] == [str(installed / "site/subl/_recipes/plugins.py")]


def test_a_copy_never_overwrites(installed: Path) -> None:
    (installed / "work" / "micro_a.toml").write_text("mine")
    for destination in ([], ["micro_a.toml"], ["."]):
        done = run_installed(installed, "recipes", "copy", "micro_a", *destination)
        assert (done.returncode, done.stderr) == (
            2,
            "error: micro_a.toml exists already; choose another name: subl recipes copy micro_a DEST\n",
        )
    assert (installed / "work" / "micro_a.toml").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["micro_z"], "no shipped recipe is named 'micro_z'; did you mean 'micro_"),
        (["micro_a", "no/such/x.toml"], "no/such/x.toml cannot be written: No such file or directory"),
        (["micro_a", "x.txt"], "x.txt does not end in .toml, by which recipes are known"),
    ],
)
def test_a_copy_that_cannot_be_made_says_why(installed: Path, arguments: list[str], message: str) -> None:
    done = run_installed(installed, "recipes", "copy", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
