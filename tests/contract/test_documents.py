"""What the documents show is what happens."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)


def test_the_plugin_in_the_readme_is_the_file_that_is_tested() -> None:
    assert blocks("README.md", "python") == [(ROOT / "plugins/local/even.py").read_text(encoding="utf-8")]


def test_the_local_plugin_filters_as_its_docstring_says() -> None:
    from subl.artifacts import Row
    from subl.registry.local import load_local
    from subl.registry.registry import Registry

    registry = Registry(installed=False)
    load_local(ROOT / "plugins/local/even.py", registry)
    plugin = registry.load("filter", "even")
    rows = [Row(0, "", "2, 4, 6"), Row(1, "", "2, 3"), Row(2, "", "0, 2")]
    assert plugin(plugin.Config()).reject(rows, None) == [None, "odd number", None]
    assert plugin(plugin.Config(zero=False)).reject(rows, None) == [None, "odd number", "odd number"]


def test_the_local_plugin_of_a_shipped_recipe_drops_rows_that_repeat_a_number() -> None:
    from subl.artifacts import Row
    from subl.registry.local import load_local
    from subl.registry.registry import Registry

    registry = Registry(installed=False)
    load_local(ROOT / "plugins/local/distinct.py", registry)
    plugin = registry.load("filter", "distinct")
    rows = [Row(0, "", "2, 4, 6"), Row(1, "", "2, 3, 2"), Row(2, "", "7, 7, 7")]
    assert plugin(plugin.Config()).reject(rows, None) == [None, "repeats a number", "repeats a number"]
    assert plugin(plugin.Config(repeats=1)).reject(rows, None) == [None, None, "repeats a number"]


@pytest.mark.parametrize("document", ["README.md", "plugins/README.md", "recipes/README.md"])
def test_every_recipe_and_command_that_is_named_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for path in re.findall(r"\b((?:recipes|plugins)/[\w/.-]+\.(?:toml|py))\b", text):
        assert (ROOT / path).is_file(), path
    for command in set(re.findall(r"subl ([a-z]+)\b", text)) - {"is"}:
        done = subprocess.run([sys.executable, "-m", "subl", command, "--help"], capture_output=True, check=False)
        assert done.returncode == 0, command


def test_the_readme_has_one_install_and_run_and_one_install_and_test_command() -> None:
    commands = [block.strip() for block in blocks("README.md", "sh")]
    assert len([c for c in commands[:2] if c.startswith("python3 -m venv .venv && ") and "\n" not in c]) == 2
    assert "subl run recipes/micro_owl.toml" in commands[0]
    assert "pytest" in commands[1]
