"""What a job in another process reports, as messages through a pipe: sent there, replayed on the outlet here."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

from subl.context import Bar
from subl.run.jobs import Outlet
from subl.run.store import Metric

_EVERY = 0.2
"""Seconds between messages about a bar's progress."""


class Sender:
    """The outlet of a job in another process: every call becomes a message."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._bars = 0

    def send(self, call: str, *arguments: Any) -> None:
        """Send one message."""
        with self._lock:
            self._connection.send((call, *arguments))

    def say(self, message: str) -> None:
        """Show one line."""
        self.send("say", message)

    def warn(self, message: str) -> None:
        """Show one warning."""
        self.send("warn", message)

    def event(self, name: str, facts: Mapping[str, Any]) -> None:
        """Record an event of the run."""
        self.send("event", name, dict(facts))

    def metric(self, metric: Metric) -> None:
        """Pass a live metric on to the tracker."""
        self.send("metric", metric)

    @contextmanager
    def bar(self, label: str, total: int | None, done: int) -> Iterator[Bar]:
        """Show a progress bar there."""
        self._bars += 1
        number = self._bars
        self.send("open", number, label, total, done)
        bar = _SentBar(self, number)
        try:
            yield bar
        finally:
            bar.flush()
            self.send("shut", number)


class _SentBar:
    def __init__(self, sender: Sender, number: int) -> None:
        self._sender = sender
        self._number = number
        self._steps = 0
        self._note = ""
        self._sent = time.monotonic()

    def advance(self, steps: int = 1, *, note: str = "") -> None:
        self._steps += steps
        self._note = note
        if time.monotonic() - self._sent >= _EVERY:
            self.flush()

    def flush(self) -> None:
        if self._steps:
            self._sender.send("advance", self._number, self._steps, self._note)
        self._steps, self._sent = 0, time.monotonic()


class Replay:
    """Carries out a sender's messages on an outlet of this process. Bars still open at the end are closed."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._bars: dict[int, tuple[AbstractContextManager[Bar], Bar]] = {}

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            for manager, _bar in self._bars.values():
                stack.push(manager)
        self._bars.clear()

    def __call__(self, call: str, *arguments: Any) -> None:
        """Carry out one message."""
        if call == "open":
            number, label, total, done = arguments
            manager = self._outlet.bar(label, total, done)
            self._bars[number] = manager, manager.__enter__()
        elif call == "advance":
            number, steps, note = arguments
            self._bars[number][1].advance(steps, note=note)
        elif call == "shut":
            self._bars.pop(arguments[0])[0].__exit__(None, None, None)
        else:
            getattr(self._outlet, call)(*arguments)
