"""The parent's side: an MLflow process that is fed through a pipe.

MLflow takes seconds to import, seconds more to create a database, and minutes to give a dead server up. In a process
of its own it costs the experiment none of that, cannot print on the terminal, and can still close the runs when the
experiment is killed.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import subl
from subl.artifacts import Table
from subl.tracking.flat import MAX_TAG, clean_name, flatten, shorten
from subl.tracking.links import database_links
from subl.tracking.tracker import MetricPoint, RunStatus

DRAIN_SECONDS = 30.0

_PACKAGE_ROOT = str(Path(subl.__file__).resolve().parents[1])
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow's own defaults wait for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class MlflowTracker:
    """Sends every call to the MLflow process as a line of JSON; the order is kept.

    The process imports MLflow at once, but touches no store before `start`.

    Args:
        uri: Tracking server or database.
        experiment: Name of the experiment.
        home: The project's `.subl` folder, absolute.
        warn: Called at most once.
    """

    def __init__(self, uri: str, experiment: str, home: Path, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._uri = uri
        self._home = home
        self._experiment = experiment
        self._links: Mapping[str, str] = {}
        self._lock = threading.Lock()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self._worker: subprocess.Popen[str] | None = None
        try:
            self._worker = _start_worker(self._errors.fileno())
        except OSError as error:
            self._give_up(str(error))

    def start(self, name: str, *, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Open the experiment, made if it is not there, and the parent run."""
        owner = {"host": socket.gethostname(), "pid": os.getpid()}
        self._send("open", uri=self._uri, experiment=self._experiment, home=str(self._home), **owner)
        self._send("start", name=name, params=flatten(params), tags=_clean_tags(tags))

    def start_child(self, key: str, name: str, *, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Open a child run."""
        self._send("start_child", key=key, name=name, params=flatten(params), tags=_clean_tags(tags))

    def metrics(self, key: str | None, points: Sequence[MetricPoint]) -> None:
        """Record metrics; the MLflow process gathers them into batches."""
        if points:
            self._send("metrics", key=key, points=[(clean_name(point.name), *point[1:]) for point in points])

    def dataset(self, key: str, path: Path, *, name: str, digest: str, rows: int) -> None:
        """Record what the child's student was trained on."""
        self._send("dataset", key=key, path=str(path.absolute()), name=name, digest=digest, rows=rows)

    def table(self, key: str, name: str, table: Table) -> None:
        """Record a result table."""
        self._send("table", key=key, name=clean_name(name), columns=table.columns, rows=table.rows)

    def file(self, key: str | None, path: Path, folder: str = "") -> None:
        """Copy a file into the run's artifacts."""
        self._send("file", key=key, path=str(path.absolute()), folder=folder)

    def tags(self, key: str | None, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self._send("tags", key=key, tags=_clean_tags(tags))

    def finish_child(self, key: str, status: RunStatus) -> None:
        """Close a child run."""
        self._send("finish_child", key=key, status=status)

    def finish(self, status: RunStatus) -> None:
        """Close all runs and wait until they are written, `DRAIN_SECONDS` at most."""
        self._send("finish", status=status)
        worker = self._worker
        if worker is None:
            return
        try:
            worker.wait(DRAIN_SECONDS)
        except subprocess.TimeoutExpired:
            self._worker = None
            self._links = database_links(self._uri, self._home)
            self._warn(
                f"MLflow has not taken everything within {DRAIN_SECONDS:.0f} s and goes on in the background; "
                f"nothing is lost, {self._home} holds the whole run"
            )
        else:
            self._hear(worker)

    def links(self) -> Mapping[str, str]:
        """Return where the results can be seen."""
        return self._links

    def _send(self, call: str, **arguments: Any) -> None:
        with self._lock:
            worker = self._worker
            if worker is None or worker.stdin is None:
                return
            try:
                worker.stdin.write(json.dumps({"call": call, **arguments}, default=str) + "\n")
                worker.stdin.flush()
            except OSError:
                worker.wait()
            if worker.poll() is not None and call != "finish":
                self._hear(worker)

    def _hear(self, worker: subprocess.Popen[str]) -> None:
        """Take the last words of a process that has ended."""
        assert worker.stdout is not None
        self._worker = None
        words = worker.stdout.read().strip()
        answer: dict[str, Any] = json.loads(words) if words else {"failed": self._last_error()}
        if "failed" in answer:
            self._give_up(answer["failed"])
        else:
            self._links = answer["links"] or database_links(self._uri, self._home)

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "the MLflow process ended without a word"

    def _give_up(self, reason: str) -> None:
        # An address may carry a password.
        cause = re.sub(r"//[^/@\s]+@", "//…@", f"{self._uri}: {shorten(reason, 300)}")
        self._warn(
            f"MLflow tracking is off for the rest of this run ({cause}); nothing is lost, {self._home} holds the whole "
            "run; [tracking] in the recipe names another store or switches it off"
        )


def _start_worker(errors: int) -> subprocess.Popen[str]:
    # -P and a path of our own: a file of the user's called mlflow.py or types.py must not be picked up.
    code = f"import sys; sys.path.append({_PACKAGE_ROOT!r}); from subl.tracking.worker import main; main()"
    return subprocess.Popen(  # noqa: S603 (our own code)
        [sys.executable, "-P", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        encoding="utf-8",
        env=_QUIET | os.environ,
        start_new_session=True,  # Ctrl-C is for the experiment, which then tells how it ended
    )


def _clean_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {clean_name(name): shorten(str(value), MAX_TAG) for name, value in tags.items()}
