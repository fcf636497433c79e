"""Reading a store back, and processes that can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from subl.tracking import Tracker, open_tracker
from subl.tracking.tracker import database_uri

ROOT = Path(__file__).parents[2]


def reader(home: Path) -> Any:
    """Return an MLflow client on the project's store."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=database_uri(home))


def runs(home: Path, experiment: str = "micro_owl") -> dict[str, Any]:
    """Return the experiment's runs by name."""
    client = reader(home)
    found = client.get_experiment_by_name(experiment)
    return {} if found is None else {run.info.run_name: run for run in client.search_runs([found.experiment_id])}


def tracker(home: Path, warn: Callable[[str], None], *, uri: str | None = None) -> Tracker:
    """Open a tracker as the runner does."""
    return open_tracker(enabled=True, uri=uri, experiment="micro_owl", home=home, warn=warn)


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a Python process that can import subl."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], bool], seconds: float = 180.0) -> None:
    """Wait until a condition holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
