"""Run folders of processes that are gone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from subl.run.owner import alive, reconcile, this_process


def folder(home: Path, name: str, *, status: str = "running", event: str = "stage", **owner: object) -> Path:
    made = home / "runs" / name
    made.mkdir(parents=True)
    (made / "findings.json").write_text(json.dumps({"status": status, "variants": []}))
    (made / "events.jsonl").write_text(json.dumps({"event": event}) + "\n")
    (made / "process.json").write_text(json.dumps({**this_process(), **owner}))
    return made


@pytest.fixture
def gone() -> int:
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def status(run: Path) -> str:
    return str(json.loads((run / "findings.json").read_text())["status"])


def test_only_runs_of_dead_processes_of_this_machine_are_closed(tmp_path: Path, gone: int) -> None:
    mine = folder(tmp_path, "mine")
    killed = folder(tmp_path, "killed", pid=gone)
    elsewhere = folder(tmp_path, "elsewhere", pid=gone, host="another")
    ended = folder(tmp_path, "ended", status="finished", event="run", pid=gone)
    assert reconcile(tmp_path) == ["killed"]
    assert [status(run) for run in (mine, killed, elsewhere, ended)] == ["running", "killed", "running", "finished"]
    assert reconcile(tmp_path) == [], "once is enough"


def test_a_process_that_inherited_the_number_is_another_one(tmp_path: Path) -> None:
    assert alive(folder(tmp_path, "mine"))
    assert not alive(folder(tmp_path, "before", started=this_process()["started"] - 3600))
    old = folder(tmp_path, "old")
    (old / "process.json").write_text(json.dumps({"pid": os.getpid(), "host": this_process()["host"]}))
    assert alive(old), "runs of earlier versions do not say when their process started"


def test_a_cut_event_and_a_broken_folder_do_not_stop_anything(tmp_path: Path, gone: int) -> None:
    cut = folder(tmp_path, "cut", pid=gone)
    (cut / "events.jsonl").write_text('{"event": "sta')
    broken = folder(tmp_path, "broken", pid=gone)
    (broken / "findings.json").write_text("{")
    (tmp_path / "runs/empty").mkdir()
    assert reconcile(tmp_path) == ["cut"]
    last = (cut / "events.jsonl").read_text().splitlines()[-1]
    assert json.loads(last) == {"event": "run", "status": "killed"}
