"""MLflow databases on disk: making one safely, and tidying up after killed processes."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import psutil
from filelock import FileLock
from mlflow import MlflowClient

LOCK_SECONDS = 120.0


def sqlite_path(uri: str) -> Path | None:
    """Return the file behind a `sqlite:///` address, or None for any other address."""
    prefix = "sqlite:///"
    return Path(uri.removeprefix(prefix)).absolute() if uri.startswith(prefix) else None


def create_database(path: Path) -> None:
    """Make an MLflow database unless there is one.

    Its tables take seconds to make. Two processes doing so at once break it, and a kill half way leaves one that
    nobody can open: so it is made aside under a lock, and moved into place whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock", timeout=LOCK_SECONDS):
        if path.exists() and path.stat().st_size > 0:
            return
        draft = path.with_name(f"{path.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        MlflowClient(tracking_uri=f"sqlite:///{(draft / 'draft.db').as_posix()}").get_experiment("0")
        # A copy, because MLflow keeps the draft open.
        with (
            closing(sqlite3.connect(draft / "draft.db")) as source,
            closing(sqlite3.connect(draft / "whole.db")) as copy,
        ):
            source.backup(copy)
        (draft / "whole.db").replace(path)
        shutil.rmtree(draft, ignore_errors=True)


def reconcile(client: MlflowClient, host: str) -> None:
    """Set runs that still claim to run, but whose process on this machine is gone, to KILLED."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments(max_results=1000)]
    running = client.search_runs(experiments, f"attributes.status = 'RUNNING' and tags.`subl.host` = '{host}'")
    for run in running:
        if not _alive(run.data.tags.get("subl.pid", ""), run.info.start_time):
            client.set_terminated(run.info.run_id, "KILLED")


def _alive(pid: str, start_ms: int) -> bool:
    try:
        # A process that is younger than the run has only inherited the number.
        return bool(psutil.Process(int(pid)).create_time() * 1000 <= start_ms)
    except (psutil.NoSuchProcess, ValueError):
        return False
    except psutil.AccessDenied:
        return True
