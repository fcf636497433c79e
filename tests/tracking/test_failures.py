"""Servers that are down, stores that are broken, processes that are killed: one warning, and nothing stops."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from subl.artifacts import Table
from subl.tracking import MetricPoint, NullTracker, Tracker, open_tracker
from subl.tracking.tracker import database_uri
from subl.tracking.worker import describe
from tests.tracking.support import python, reader, runs, tracker, wait_for


def _use_every_call(track: Tracker, folder: Path) -> None:
    track.start("parent", params={"a": {"b": 1}}, tags={"t": "x"})
    track.start_child("k", "child", params={}, tags={})
    track.metrics("k", [MetricPoint("m", 1.0, 0, 0)])
    track.dataset("k", folder / "rows.jsonl", name="rows", digest="d", rows=1)
    track.table("k", "t", Table(("a",), ((1,),)))
    track.file(None, folder / "report.md")
    track.tags(None, {"t": "y"})
    track.finish_child("k", "FINISHED")
    track.finish("FINISHED")


def test_tracking_that_is_off_does_nothing(tmp_path: Path) -> None:
    track = open_tracker(enabled=False, uri=None, experiment="e", home=tmp_path / ".subl", warn=pytest.fail)
    assert isinstance(track, NullTracker)
    _use_every_call(track, tmp_path)
    assert track.links() == {}
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_down_costs_one_warning_and_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subl.tracking.process.DRAIN_SECONDS", 600.0)
    warnings: list[str] = []
    started = time.monotonic()
    track = tracker(tmp_path, warnings.append, uri="http://someone:secret@127.0.0.1:9")
    _use_every_call(track, tmp_path)
    assert time.monotonic() - started < 120, "MLflow's own patience is 250 s; a machine may be busy"
    (warning,) = warnings
    assert "127.0.0.1" in warning
    assert "Connection refused" in warning
    assert "secret" not in warning
    assert str(tmp_path) in warning
    assert track.links() == {}


def test_a_server_that_never_answers_does_not_hold_the_run_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subl.tracking.process.DRAIN_SECONDS", 3.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    warnings: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        track = tracker(tmp_path, warnings.append, uri=f"http://127.0.0.1:{silent.getsockname()[1]}")
        _use_every_call(track, tmp_path)
        assert time.monotonic() - started < 120, "far from the server's 600 s; a machine may be busy"
        (warning,) = warnings
        assert "goes on in the background" in warning


def test_the_environment_names_the_server_unless_the_recipe_does(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "shared" / "other.db"
    other.parent.mkdir()
    shutil.copyfile(home / "mlflow.db", other)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    warnings: list[str] = []
    track = tracker(home, warnings.append)
    track.start("parent", params={}, tags={})
    track.finish("FINISHED")
    assert warnings == []
    assert track.links() == {"experiment": f"mlflow ui --backend-store-uri {shlex.quote(f'sqlite:///{other}')}"}
    assert runs(home) == {}
    with sqlite3.connect(other) as database:
        assert database.execute("select name from runs").fetchall() == [("parent",)]


@pytest.mark.parametrize("uri", ["nonsense://x", "sqlite:////proc/nowhere/mlflow.db"])
def test_an_address_that_makes_no_sense_is_one_warning(tmp_path: Path, uri: str) -> None:
    warnings: list[str] = []
    _use_every_call(tracker(tmp_path, warnings.append, uri=uri), tmp_path)
    assert len(warnings) == 1


def test_a_broken_database_is_one_warning_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is not a database" * 100)
    warnings: list[str] = []
    _use_every_call(tracker(tmp_path, warnings.append), tmp_path)
    assert len(warnings) == 1
    assert "not a database" in warnings[0]
    assert (tmp_path / "mlflow.db").read_bytes().startswith(b"this is not")


_CREATE = """
import sys
from pathlib import Path
from subl.tracking.stores import create_database
create_database(Path(sys.argv[1]))
from mlflow import MlflowClient
client = MlflowClient(tracking_uri=f"sqlite:///{sys.argv[1]}")
client.create_run(client.create_experiment(sys.argv[2], artifact_location="file:///nowhere"))
"""


def test_two_processes_and_the_rest_of_a_killed_one_make_one_database(tmp_path: Path) -> None:
    path = tmp_path / ".subl" / "mlflow.db"
    half_made = tmp_path / ".subl" / "mlflow.db.new"
    half_made.mkdir(parents=True)
    (half_made / "draft.db").write_bytes(b"half")
    processes = [python(_CREATE, str(path), name) for name in ("one", "two")]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    names = {experiment.name for experiment in reader(path.parent).search_experiments()}
    assert names == {"Default", "one", "two"}
    assert not half_made.exists()


_RUN = """
import sys, time
from pathlib import Path
from subl.tracking import MetricPoint, open_tracker
track = open_tracker(enabled=True, uri=None, experiment="micro_owl", home=Path(sys.argv[1]), warn=print)
track.start("parent", params={}, tags={})
track.start_child("k", "child", params={}, tags={})
track.metrics("k", [MetricPoint("m", 1.0, 0, 0)])
time.sleep(600)
"""


def test_runs_of_a_killed_experiment_are_closed_at_once(home: Path) -> None:
    process = python(_RUN, str(home))
    wait_for(lambda: "child" in runs(home))
    process.kill()
    process.communicate()
    wait_for(lambda: {run.info.status for run in runs(home).values()} == {"KILLED"})
    assert runs(home)["child"].data.metrics == {"m": 1.0}


def _recorder(home: Path, pid: int) -> Any:
    from subl.tracking.recorder import Recorder

    return Recorder(uri=database_uri(home), experiment="micro_owl", home=str(home), host="here", pid=pid)


def test_runs_that_a_lost_process_left_open_are_closed_at_the_next_start(home: Path) -> None:
    gone = python("")
    gone.communicate()
    lost, alive = _recorder(home, gone.pid), _recorder(home, os.getpid())
    lost.start(name="lost", params={}, tags={})
    lost.start_child(key="k", name="lost child", params={}, tags={})
    alive.start(name="alive", params={}, tags={})
    _recorder(home, os.getpid())
    status = {name: run.info.status for name, run in runs(home).items()}
    assert status == {"lost": "KILLED", "lost child": "KILLED", "alive": "RUNNING"}


def test_a_process_that_only_inherited_the_number_does_not_keep_a_run_open(home: Path) -> None:
    client = reader(home)
    experiment = client.create_experiment("micro_owl", artifact_location="file:///nowhere")
    tags = {"subl.host": "here", "subl.pid": str(os.getpid())}
    client.create_run(experiment, start_time=1, run_name="before this process", tags=tags)
    _recorder(home, os.getpid())
    assert runs(home)["before this process"].info.status == "KILLED"


def test_runs_of_another_machine_are_left_alone(home: Path) -> None:
    client = reader(home)
    experiment = client.create_experiment("micro_owl", artifact_location="file:///nowhere")
    client.create_run(experiment, run_name="there", tags={"subl.host": "there", "subl.pid": "999999999"})
    _recorder(home, os.getpid())
    assert runs(home)["there"].info.status == "RUNNING"


def test_an_experiment_that_was_deleted_in_the_ui_comes_back(home: Path) -> None:
    client = reader(home)
    client.delete_experiment(client.create_experiment("micro_owl", artifact_location="file:///nowhere"))
    _recorder(home, os.getpid()).start(name="parent", params={}, tags={})
    assert set(runs(home)) == {"parent"}


def test_the_reason_is_found_below_the_layers_of_an_http_client() -> None:
    error = RuntimeError("HTTPConnectionPool(host=…)\nand more")
    error.__cause__ = ConnectionRefusedError(111, "Connection refused")
    assert describe(error) == "[Errno 111] Connection refused"
    assert describe(RuntimeError("first\nsecond")) == "first"
    assert describe(KeyError()) == "KeyError"


def test_opening_a_tracker_imports_no_mlflow(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from subl.tracking import open_tracker; import subl.cli.ui; "
        "open_tracker(enabled=True, uri='http://127.0.0.1:9', experiment='e', home=Path('x'), warn=str); "
        "print([name for name in ('mlflow', 'pandas', 'torch', 'numpy') if name in sys.modules])"
    )
    process = python(code)
    output, errors = process.communicate(timeout=60)
    assert output.strip() == "[]", errors
