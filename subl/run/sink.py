"""Where a stage's messages, metrics and progress go while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from subl.context import Bar
from subl.run.store import METRICS, Metric, metric_line


class Display(Protocol):
    """What the user sees; the command line provides it."""

    def say(self, message: str) -> None:
        """Show one line."""
        ...

    def warn(self, message: str) -> None:
        """Show one warning."""
        ...

    def bar(self, label: str, total: int | None, done: int) -> AbstractContextManager[Bar]:
        """Show a progress bar."""
        ...


class StageSink:
    """Records a stage's metrics in its work folder, so that they survive a kill, and passes them on to the tracker."""

    def __init__(
        self,
        *,
        stage: str,
        work: Path,
        display: Display,
        record: Callable[[str], None],
        forward: Callable[[Metric], None],
    ) -> None:
        self._stage = stage
        self._display = display
        self._record = record
        self._forward = forward
        self._lock = threading.Lock()
        self._file = (work / METRICS).open("a", encoding="utf-8")

    def log(self, message: str) -> None:
        """Record and show one line."""
        self._record(message)
        self._display.say(f"{self._stage}: {message}")

    def metric(self, name: str, value: float, step: int | None) -> None:
        """Record one number."""
        metric = Metric(name, value, step)
        with self._lock:
            self._file.write(metric_line(metric))
            self._file.flush()
        self._forward(metric)

    def bar(self, label: str, total: int | None, done: int) -> AbstractContextManager[Bar]:
        """Open a progress bar."""
        return self._display.bar(f"{self._stage}: {label}" if label else self._stage, total, done)

    def close(self) -> None:
        """Close the metrics file."""
        self._file.close()
