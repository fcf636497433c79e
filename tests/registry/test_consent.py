"""Plugin files that a recipe names run from its own folder tree, or after consent."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from subl.cli import main
from subl.registry.consent import Consent, consent
from subl.registry.registry import registry

PLUGIN = '''
from pathlib import Path

import subl

Path({mark!r}).touch()


@subl.filter("foreign")
class Foreign:
    """Keeps everything."""

    class Config(subl.PluginConfig):
        """Nothing to set."""

    version = 1

    def __init__(self, config):
        self.config = config

    def reject(self, rows, ctx):
        return [None for _ in rows]
'''


class Place:
    """A recipe in a folder of its own, and a plugin file elsewhere that leaves a mark when it runs."""

    def __init__(self, folder: Path) -> None:
        self.mark = folder / "it ran"
        self.plugin = folder / "elsewhere/foreign.py"
        self.recipe = folder / "mine/recipe.toml"
        for path in (self.plugin, self.recipe):
            path.parent.mkdir()
        self.plugin.write_text(PLUGIN.format(mark=str(self.mark)))
        self.use("../elsewhere/foreign.py")

    def use(self, plugin: str) -> None:
        self.recipe.write_text(f'extends = "smoke"\nplugins = ["{plugin}"]\n[[filters]]\nplugin = "foreign"\n')

    def validate(self, *options: str) -> bool:
        """Validate; return whether the plugin file ran."""
        self.mark.unlink(missing_ok=True)
        code = main(["validate", str(self.recipe), *options])
        assert code == (0 if self.mark.exists() else 2)
        return self.mark.exists()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    yield Place(tmp_path)
    registry.forget_local()
    consent.set(Consent())


def test_a_file_outside_the_recipes_folder_does_not_run_and_the_error_says_what_to_do(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not place.validate()
    err = capsys.readouterr().err
    assert f"plugin file {place.plugin} lies outside the folder of recipe.toml" in err
    assert "subl validate recipe.toml --allow-local-plugins" in err


def test_a_file_below_the_recipes_folder_runs(place: Place) -> None:
    inside = place.recipe.parent / "plugins/foreign.py"
    inside.parent.mkdir()
    inside.write_text(place.plugin.read_text())
    place.use("plugins/foreign.py")
    assert place.validate()


def test_a_link_to_the_outside_is_outside(place: Place) -> None:
    (place.recipe.parent / "link.py").symlink_to(place.plugin)
    place.use("link.py")
    assert not place.validate()


def test_a_recipe_that_is_extended_cannot_bring_files_from_its_own_folder(place: Place) -> None:
    (place.plugin.parent / "base.toml").write_text(place.recipe.read_text().replace("../elsewhere/", ""))
    place.recipe.write_text(f'extends = "{place.plugin.parent / "base.toml"}"\n')
    assert not place.validate()


def test_consent_is_remembered_by_content(place: Place) -> None:
    assert place.validate("--allow-local-plugins")
    assert list(json.loads(Path(".subl/allowed_plugins.json").read_text()).values()) == [str(place.plugin)]
    assert place.validate()
    place.plugin.write_text(place.plugin.read_text() + "# edited\n")
    assert not place.validate()


@pytest.mark.parametrize("answer", ["y", "n"])
def test_at_a_terminal_the_user_is_asked_once(place: Place, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    asked: list[str] = []

    def confirm(question: str) -> bool:
        asked.append(question)
        return answer == "y"

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", confirm)
    assert place.validate() == (answer == "y")
    place.validate()
    assert len(asked) == (1 if answer == "y" else 2)
    assert str(place.plugin) in asked[0]


def test_a_file_given_on_the_command_line_needs_no_further_consent(place: Place) -> None:
    place.recipe.write_text('extends = "smoke"\n[[filters]]\nplugin = "foreign"\n')
    assert place.validate("--plugin", str(place.plugin))
