"""Stages in worker processes: the same results as one after the other, and nothing lost when one dies."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from subl.cli import main
from subl.cli.display import TerminalDisplay
from subl.run.pool import Pool, _environment
from tests.run.conftest import Project


@pytest.fixture
def workers(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the recipe with two workers, from this process."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("TOY_LOG", str(project.folder / "log"))

    def run(*arguments: str, **environment: str) -> int:
        (project.folder / "log").unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            return main(["run", "toy.toml", "--workers", "2", *arguments])

    return run


def living(group: int) -> list[psutil.Process]:
    """Return the processes of a group that still run after some seconds."""
    for _ in range(100):
        left = [p for p in psutil.process_iter(["status"]) if _in(group, p) and p.info["status"] != "zombie"]
        if not left:
            break
        time.sleep(0.05)
    return left


def _in(group: int, process: psutil.Process) -> bool:
    try:
        return os.getpgid(process.pid) == group
    except OSError:
        return False


def statuses(project: Project) -> dict[str, str]:
    return {variant["arm"]: variant["status"] for variant in project.findings()["variants"]}


def test_workers_give_the_bytes_of_a_sequential_run_and_compute_nothing_twice(
    project: Project, workers: Callable[..., int], uninterrupted: Callable[[], dict[str, Any]]
) -> None:
    # Both arms' rows are written at the same time, else the two would wait for each other in vain.
    assert workers(TOY_MEET="row5") == 0
    assert project.results() == uninterrupted()
    assert project.log.count("induce") == 1
    assert project.log.count("row7") == 2
    order = [stage["stage"] for stage in project.findings()["variants"][0]["stages"]]
    assert order[-4:] == ["filter", "audit", "distill", "student.toy"], "recorded in the plan's order"
    assert workers() == 0
    assert project.log == []


def test_a_failed_worker_fails_only_its_own_branch(
    project: Project,
    workers: Callable[..., int],
    uninterrupted: Callable[[], dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert workers(TOY_FAIL="induce") == 2
    shown = " ".join(capsys.readouterr().out.split())
    assert "main: stage induce of main (inducer 'toy' from" in shown
    assert "ValueError: the toy was asked to fail" in shown
    assert statuses(project) == {"main": "failed", "control": "finished", "other_init": "failed"}
    # A worker that dies without a word is named too, and a new one takes its place.
    assert workers(TOY_KILL="row700", TOY_FAIL="") == 2
    assert "its worker process ended by signal 9" in " ".join(capsys.readouterr().out.split())
    assert workers() == 0
    assert "row100" not in project.log, "whole shards of the killed worker are kept"
    assert project.results() == uninterrupted()


@pytest.mark.parametrize("edit", ["{source}# edited", "def (:"])
def test_a_plugin_file_that_is_edited_meanwhile_is_told_in_plain_words(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], edit: str
) -> None:
    monkeypatch.chdir(project.folder)
    start, plugins = Pool._start, project.folder / "toy_plugins.py"

    def edited(pool: Any) -> Any:
        plugins.write_text(edit.replace("{source}", plugins.read_text()))
        return start(pool)

    monkeypatch.setattr(Pool, "_start", edited)
    assert main(["run", "toy.toml", "--arm", "main", "--workers", "2"]) == 2
    shown = " ".join(capsys.readouterr().out.split())
    assert "main: a plugin's file changed while the run went on (No module named 'subl_local_toy_plugins_" in shown
    assert "run the same command" in shown


def test_a_failed_check_stops_its_rows(
    project: Project, workers: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert workers("--set", "check.limit=3") == 2
    assert "warning: main: the teacher did not pass the check (toy)" in capsys.readouterr().out
    assert project.log.count("row0") == 1, "the control's"
    assert statuses(project) == {"main": "failed", "control": "finished", "other_init": "failed"}


def test_a_plugin_that_interrupts_interrupts_the_run(project: Project, workers: Callable[..., int]) -> None:
    assert workers(TOY_STOP="row700") == 130
    assert project.findings()["status"] == "interrupted"


def test_ctrl_c_stops_all_workers_and_leaves_everything_resumable(
    project: Project, workers: Callable[..., int], uninterrupted: Callable[[], dict[str, Any]]
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "subl", "run", "toy.toml", "--workers", "2"],
        cwd=project.folder,
        env={**os.environ, "TOY_LOG": str(project.folder / "log"), "TOY_WAIT": "update2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    )
    deadline = time.monotonic() + 60
    while project.log.count("update2") < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else signal.SIGINT)
    shown, _ = process.communicate(timeout=30)
    assert process.returncode == 130, shown
    assert "interrupted in stage distill of main (distiller 'toy'" in " ".join(shown.split())
    assert "Traceback" not in shown
    assert not living(process.pid)
    assert set(statuses(project).values()) <= {"interrupted", "missing"}
    assert workers() == 0
    assert "row0" not in project.log
    assert project.results() == uninterrupted()


def test_each_worker_has_its_gpus_and_its_share_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert [_environment(n, 2, ("0", "1"), 1)["CUDA_VISIBLE_DEVICES"] for n in range(2)] == ["0", "1"]
    assert [_environment(n, 2, ("4", "5", "6", "7"), 2)["CUDA_VISIBLE_DEVICES"] for n in range(2)] == ["4,5", "6,7"]
    assert _environment(2, 3, ("0", "1"), 1)["CUDA_VISIBLE_DEVICES"] == "0", "more workers than GPUs share them"
    assert _environment(0, 4, (), 2) == {"OMP_NUM_THREADS": "2"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--set", "compute.device=cuda:1", "--set", "compute.dtype=float32"], "ties every stage to one GPU"),
        (["--set", "compute.processes=2"], "distiller 'toy' trains in one process only"),
    ],
)
def test_what_workers_cannot_share_is_said_before_anything_runs(
    project: Project, workers: Callable[..., int], capsys: pytest.CaptureFixture[str], settings: list[str], message: str
) -> None:
    assert workers(*settings) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (project.folder / ".subl/runs").exists()


def test_a_launcher_around_subl_is_refused(
    project: Project, workers: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert workers(WORLD_SIZE="2", LOCAL_RANK="0") == 2
    assert "was started by a launcher" in " ".join(capsys.readouterr().err.split())


def test_bars_stand_side_by_side_on_a_terminal() -> None:
    from io import StringIO

    from rich.console import Console

    display = TerminalDisplay(Console(file=StringIO(), force_terminal=True, width=120))
    with display.bar("one", 10, 0) as one:
        second = display.bar("two", 10, 0)
        two = second.__enter__()
        one.advance(3)
        two.advance(4)
        assert display._drawing is not None
        assert [(task.description, task.completed) for task in display._drawing.tasks] == [("one", 3), ("two", 4)]
    second.__exit__(None, None, None)
    assert display._drawing is None


def test_the_run_folder_and_the_metrics_are_whole(project: Project, workers: Callable[..., int]) -> None:
    workers()
    folder = sorted((project.folder / ".subl/runs").iterdir())[-1]
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert {(event["variant"], event["stage"]) for event in events if event["event"] == "stage"} >= {
        ("main", "distill"),
        ("control", "distill"),
        ("other_init", "student.toy"),
    }
    logged = [event["variant"] for event in events if event["event"] == "log" and event["stage"] == "filter"]
    assert sorted(logged) == ["control", "main"], "whose line it is"
    curve = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]
    assert [point["step"] for point in curve if point["variant"] == "control"] == [1, 2, 3, 4]


def test_a_worker_that_died_while_idle_costs_no_job(
    project: Project, workers: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, killed = Pool.submit, list[int]()

    def after_a_death(pool: Pool, *arguments: Any) -> None:
        idle = [worker for worker in pool._workers if worker.job is None]
        if idle and not killed:
            idle[0].process.kill()
            idle[0].process.join()
            killed.append(idle[0].number)
        submit(pool, *arguments)

    monkeypatch.setattr(Pool, "submit", after_a_death)
    assert workers() == 0
    assert killed
    assert set(statuses(project).values()) == {"finished"}
