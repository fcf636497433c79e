"""Stages in several processes: started, listened to, stopped, and resumed as one process would be."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from subl.cli import main
from subl.errors import SublError
from subl.run.together import _cause, _last_words
from subl.run.worker import FAILED, INTERRUPTED
from tests.run.conftest import Project

SHARED = ["--arm", "main", "--set", "generator.plugin=toy_shared", "--set", "distiller.plugin=toy_shared"]


@pytest.fixture
def together(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the recipe with plugins that share their work."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("TOY_LOG", str(project.folder / "log"))
    monkeypatch.setenv("TOY_SHARE", "yes")

    def run(processes: int, *arguments: str, **environment: str) -> int:
        (project.folder / "log").unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            return main(["run", "toy.toml", *SHARED, "--set", f"compute.processes={processes}", *arguments])

    return run


def test_two_processes_give_the_bytes_of_one_and_resume(
    project: Project, together: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    until = ("--until", "filter")
    assert together(2, *until, TOY_STOP="row300") == 130
    assert "interrupted in stage generate of main" in " ".join(capsys.readouterr().out.split())
    assert [line for line in project.log if line.startswith("shared")] == ["shared by 0"], "the process that is heard"
    assert together(2, *until, TOY_FAIL="row700") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "stage generate of main (generator 'toy_shared' from" in told
    assert "ValueError: the toy was asked to fail" in told
    assert together(2, *until) == 0
    assert project.log.count("row511") == 0, "the first shard is kept"
    assert project.log.count("row700") == 1, "each row is written by one process"
    assert "generate: written by 2 processes" in capsys.readouterr().out
    shared = project.results()["files"]
    assert together(1, *until, "--store", "alone") == 0
    assert _files(project.folder / "alone") == shared


def test_the_process_that_ended_first_is_the_cause() -> None:
    # The launcher interrupts the others when one has ended.
    full, stopped = (FAILED, SublError, "no space left", 2.0), (INTERRUPTED, 3.0)
    for early in ([full, stopped], [stopped, full]):
        assert str(_cause(early)) == "no space left"
        with pytest.raises(KeyboardInterrupt):
            _cause([*early, (INTERRUPTED, 1.0)])


def test_processes_that_die_without_a_word_are_quoted() -> None:
    said = BytesIO(b"a warning\nRuntimeError: no space left\nexiting\n\n")
    assert _last_words(said, 1) == "its processes ended with exit code 1: RuntimeError: no space left"
    assert _last_words(BytesIO(), -9).endswith("no output")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["inducer.plugin=lora", "inducer.batch_size=9"], "9 cannot be shared out evenly among 2 processes"),
        (
            ["distiller.plugin=sft", "distiller.batch_size=12", "distiller.micro_batch_size=4"],
            "12 cannot be shared out evenly among 2 processes that hold 4 rows at once (micro_batch_size)",
        ),
        (["distiller.plugin=toy"], "distiller 'toy' trains in one process only"),
        (["compute.device=mps"], '2 processes do not share device = "mps"'),
    ],
)
def test_what_cannot_be_shared_is_said_by_validate(
    project: Project,
    together: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    settings: list[str],
    message: str,
) -> None:
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    assert main(["validate", "toy.toml", *SHARED[2:], "--set", "compute.processes=2", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def _files(store: Path) -> dict[str, Any]:
    return {
        path.parent.name: json.loads(path.read_text())["files"]
        for path in sorted((store / "store").glob("*/manifest.json"))
    }
