"""The command line as a whole: start-up, help, errors, interruption."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import subl
from subl.cli import app, main
from subl.errors import PluginError
from tests.recipe.kit import BASE, write

ROOT = Path(subl.__file__).parents[1]
HEAVY = ("torch", "transformers", "mlflow", "trl", "peft", "numpy", "scipy", "pandas", "matplotlib", "datasets")


def pages() -> dict[str, Any]:
    """Every command and group by its words."""
    found: dict[str, Any] = {}

    def walk(command: Any, words: str) -> None:
        found[words] = command
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{words} {name}".strip())

    walk(typer.main.get_command(app), "")
    return found


LIGHT = [
    words
    for words, page in pages().items()
    if not hasattr(page, "commands") and words.split()[0] in ("validate", "show", "plugins", "recipes")
]


def python(code: str, cwd: Path) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("words", pages())
def test_every_help_page_ends_with_an_example_of_its_command(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words.split(), "--help"]) == 0
    out = capsys.readouterr().out
    example = re.search(r"Example: subl (.*)", out)
    assert example is not None
    assert example.group(1).startswith(words)
    assert out.strip().splitlines()[-1].strip() == example.group(0)


@pytest.mark.parametrize("words", LIGHT)
def test_the_example_of_a_light_command_works(
    words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main([*words.split(), "--help"])
    example = re.search(r"Example: subl (.*)", capsys.readouterr().out)
    assert example is not None
    assert main(shlex.split(example.group(1))) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("words", pages())
def test_no_line_of_help_is_cut(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([*words.split(), "--help"])
    assert not [line for line in capsys.readouterr().out.splitlines() if line.endswith("...") and "Usage" not in line]


def test_help_needs_less_than_half_a_second(tmp_path: Path) -> None:
    # Processor time, and the best of some: other work on the machine is not ours to measure.
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'subl', '--help'], check=True, stdout=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime)\n"
    )
    assert min(float(python(code, tmp_path)) for _ in range(4)) < 0.5


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["validate", "base.toml"], ["show", "base.toml"], ["plugins", "list"], ["recipes", "list"]],
    ids=" ".join,
)
def test_light_commands_import_no_framework(tmp_path: Path, arguments: list[str]) -> None:
    write(tmp_path, {"base.toml": BASE})
    code = (
        "import sys, json\nfrom subl.cli import main\n"
        f"code = main({arguments!r})\n"
        f"print('\\n' + json.dumps([code, [name for name in {HEAVY!r} if name in sys.modules]]))"
    )
    assert json.loads(python(code, tmp_path).splitlines()[-1]) == [0, []]


def test_the_public_api_is_light_and_every_name_is_there(tmp_path: Path) -> None:
    code = (
        "import sys, subl\n"
        "assert all(hasattr(subl, name) for name in subl.__all__)\n"
        f"print([name for name in {(*HEAVY, 'typer', 'rich')!r} if name in sys.modules])"
    )
    assert python(code, tmp_path).strip() == "[]"


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"subl {subl.__version__}\n"


def test_an_expected_error_is_one_message_without_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "show", "filter", "no_texts"]) == 2
    assert capsys.readouterr() == ("", "error: unknown filter 'no_texts'; did you mean 'no_text'?\n")


def test_debug_shows_the_traceback_of_an_expected_error() -> None:
    with pytest.raises(PluginError):
        main(["--debug", "plugins", "show", "filter", "no_texts"])
    assert main(["plugins", "show", "filter", "no_texts"]) == 2


@pytest.mark.parametrize(
    "arguments", [["valdate"], ["validate", "--sett", "x=1", "y"], ["show"], ["show", "x", "--point=-1"]], ids=" ".join
)
def test_a_wrong_command_line_exits_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) == 2
    assert "Error" in capsys.readouterr().err


def test_a_mistyped_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    main(["valdate", "x"])
    assert "Did you mean 'validate'?" in capsys.readouterr().err


def test_ctrl_c_exits_130(tmp_path: Path) -> None:
    (tmp_path / "stop.py").write_text("raise KeyboardInterrupt\n")
    assert main(["plugins", "list", "--plugin", str(tmp_path / "stop.py")]) == 130


def test_sigterm_ends_like_ctrl_c_so_that_work_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(600)\n"
        "finally:\n"
        "    open('recorded', 'w').close()\n"
    )
    command = [sys.executable, "-m", "subl", "plugins", "list", "--plugin", "slow.py"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 130
    assert (tmp_path / "recorded").exists()
    assert "Traceback" not in done.stderr


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = f"{shlex.quote(sys.executable)} -m subl plugins list --json | head -n 1"
    done = subprocess.run(command, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "[\n"
    assert "Traceback" not in done.stderr
