"""What the runner tells a tracker, and which tracker a recipe gets."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from subl.artifacts import Table

RunStatus: TypeAlias = Literal["FINISHED", "FAILED", "KILLED"]

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"

METRIC_TAG = "subl.metric"
"""Tag of the parent run with the recipe's primary metric, e.g. "preference.share"; the UI's view is built on it."""


class MetricPoint(NamedTuple):
    """One value of one metric; `time_ms` is milliseconds since 1970."""

    name: str
    value: float
    step: int
    time_ms: int


class Tracker(Protocol):
    """Follows one invocation: a parent run, and a child run per arm × sweep point.

    No call raises or waits for a server: a tracker that cannot go on warns once and ignores the rest.
    """

    def start(self, name: str, *, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Open the parent run; nested params become dotted names."""
        ...

    def start_child(self, key: str, name: str, *, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Open a child run, called `key` from now on."""
        ...

    def metrics(self, key: str | None, points: Sequence[MetricPoint]) -> None:
        """Record metrics of a child, or of the parent where `key` is None."""
        ...

    def dataset(self, key: str, path: Path, *, name: str, digest: str, rows: int) -> None:
        """Record what the child's student was trained on."""
        ...

    def table(self, key: str, name: str, table: Table) -> None:
        """Record a result table as `<name>.json`; equal names compare side by side across runs."""
        ...

    def file(self, key: str | None, path: Path, folder: str = "") -> None:
        """Copy a file that no longer changes into the run's artifacts."""
        ...

    def tags(self, key: str | None, tags: Mapping[str, str]) -> None:
        """Set tags."""
        ...

    def finish_child(self, key: str, status: RunStatus) -> None:
        """Close a child run."""
        ...

    def finish(self, status: RunStatus) -> None:
        """Close the parent and children still open, and wait a bounded time until all is written."""
        ...

    def links(self) -> Mapping[str, str]:
        """Return where the results can be seen: a label → an address or a command. Empty before `finish`."""
        ...


class NullTracker:
    """Tracks nothing: for `[tracking] enabled = false`."""

    def start(self, name: str, *, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def start_child(self, key: str, name: str, *, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def metrics(self, key: str | None, points: Sequence[MetricPoint]) -> None:
        """Do nothing."""

    def dataset(self, key: str, path: Path, *, name: str, digest: str, rows: int) -> None:
        """Do nothing."""

    def table(self, key: str, name: str, table: Table) -> None:
        """Do nothing."""

    def file(self, key: str | None, path: Path, folder: str = "") -> None:
        """Do nothing."""

    def tags(self, key: str | None, tags: Mapping[str, str]) -> None:
        """Do nothing."""

    def finish_child(self, key: str, status: RunStatus) -> None:
        """Do nothing."""

    def finish(self, status: RunStatus) -> None:
        """Do nothing."""

    def links(self) -> Mapping[str, str]:
        """Return nothing: there is nothing to see."""
        return {}


def open_tracker(
    *, enabled: bool, uri: str | None, experiment: str, home: Path, warn: Callable[[str], None]
) -> Tracker:
    """Return the tracker that a recipe asks for; MLflow starts in the background.

    Args:
        enabled: False gives a tracker that does nothing.
        uri: The recipe's server or database; else `MLFLOW_TRACKING_URI`; else a SQLite file in `home`.
        experiment: Name of the MLflow experiment.
        home: The project's `.subl` folder.
        warn: Called at most once, in the caller's thread, when tracking cannot go on.
    """
    if not enabled:
        return NullTracker()
    from subl.tracking.process import MlflowTracker

    home = home.absolute()
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI") or database_uri(home)
    return MlflowTracker(chosen, experiment, home, warn)


def database_uri(home: Path) -> str:
    """Return the address of the project's own MLflow database."""
    return f"sqlite:///{(home / DATABASE).as_posix()}"
