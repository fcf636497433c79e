"""The plugin guide, followed to the letter: its files are written, its tests pass, its commands do what they should."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli

from subl.cli import main
from subl.recipe.loading import load_experiment
from subl.registry.local import load_local
from subl.registry.registry import Registry, registry
from subl.testing import check

GUIDE = Path(__file__).parents[2] / "plugins/README.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
COMMANDS = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with every file that the guide shows; each block's first line names its file."""
    for language, text in BLOCKS:
        if language != "sh":
            name = re.match(r"# ([\w./]+)\n", text)
            assert name is not None, f"a block names no file:\n{text}"
            (tmp_path / name[1]).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    registry.forget_local()
    for module in ("short_rows", "answer_length", "test_short_rows", "test_answer_length"):
        sys.modules.pop(module, None)


def test_the_first_filter_is_no_longer_than_promised() -> None:
    first = BLOCKS[0][1].splitlines()
    assert len([line for line in first if line and not line.startswith("#")]) <= 15


def test_every_plugin_in_the_guide_keeps_its_contract(project: Path) -> None:
    own = Registry(installed=False)
    entries = [*load_local(project / "short_rows.py", own), *load_local(project / "answer_length.py", own)]
    for entry in entries:
        check(entry.kind, own.load(entry.kind, entry.name))  # type: ignore[arg-type]
    assert len(entries) == 2


def test_the_guides_tests_pass(project: Path) -> None:
    options = ["-q", "-c", os.devnull, f"--rootdir={project}", "-p", "no:cacheprovider", "-p", "no:xdist"]
    assert pytest.main([*options, *map(str, sorted(project.glob("test_*.py")))]) == pytest.ExitCode.OK


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_guide_works(project: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, *arguments = shlex.split(command)
    assert program == "subl"
    assert main([*arguments, *(["--dry-run"] if arguments[0] == "run" else [])]) == 0
    assert capsys.readouterr().out


def test_the_recipe_of_the_guide_uses_its_plugins(project: Path) -> None:
    recipe = load_experiment(project / "recipe.toml").variants[0].recipe
    assert ([chosen.name for chosen in recipe.filters], [use.name for use in recipe.probes]) == (
        ["short_rows"],
        ["answer_length"],
    )
    assert tomli.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"] == "subl-mylab"
