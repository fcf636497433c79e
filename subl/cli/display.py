"""What the user sees of a running experiment: lines and progress bars with rate and time left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from rich.progress import Progress

    from subl.context import Bar

_LINE_EVERY = 15.0
"""Seconds between progress lines where there is no terminal to draw a bar on."""


class TerminalDisplay:
    """Draws on a terminal, or prints plain lines where the output is a file or a pipe. Bars may run side by side."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawing: Progress | None = None
        self._bars = 0

    def say(self, message: str) -> None:
        """Show one line."""
        self._console.print(escape(message), highlight=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """Show one warning."""
        self._console.print(f"[yellow]warning:[/] {escape(message)}", highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, label: str, total: int | None, done: int) -> Iterator[Bar]:
        """Show a progress bar, or a line now and then."""
        if not self._console.is_terminal:
            yield _Lines(self, label, total, done)
            return
        with self._progress() as progress:
            task = progress.add_task(escape(label), total=total, completed=done, rate="", note="")
            clock = _Clock(done)

            class Drawn:
                def advance(self, steps: int = 1, *, note: str = "") -> None:
                    clock.advance(steps)
                    progress.update(task, advance=steps, rate=clock.rate_text(), note=escape(note))

            try:
                yield Drawn()
            finally:
                progress.remove_task(task)

    @contextmanager
    def _progress(self) -> Iterator[Progress]:
        """Hold the one drawing that all bars share; a terminal takes no second one."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if self._drawing is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[note]}", style="dim"),
            )
            self._drawing = Progress(*columns, console=self._console, transient=True)
            self._drawing.start()
        self._bars += 1
        try:
            yield self._drawing
        finally:
            self._bars -= 1
            if not self._bars:
                self._drawing.stop()
                self._drawing = None


@dataclass(slots=True)
class _Clock:
    """Counts steps since the bar was opened; steps done before do not enter the rate."""

    before: int
    started: float = 0.0
    steps: int = 0

    def __post_init__(self) -> None:
        self.started = time.monotonic()

    def advance(self, steps: int) -> None:
        self.steps += steps

    def rate(self) -> float:
        return self.steps / max(time.monotonic() - self.started, 1e-9)

    def rate_text(self) -> str:
        rate = self.rate()
        return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s"


class _Lines:
    def __init__(self, display: TerminalDisplay, label: str, total: int | None, done: int) -> None:
        self._display = display
        self._label = label
        self._total = total
        self._clock = _Clock(done)
        self._shown = self._clock.started

    def advance(self, steps: int = 1, *, note: str = "") -> None:
        self._clock.advance(steps)
        now = time.monotonic()
        if now - self._shown < _LINE_EVERY:
            return
        self._shown = now
        done = self._clock.before + self._clock.steps
        of = f" of {self._total:,}" if self._total else ""
        rate = self._clock.rate()
        left = f", {(self._total - done) / rate:,.0f} s left" if self._total and rate > 0 else ""
        self._display.say(f"{self._label}: {done:,}{of}, {self._clock.rate_text()}{left}{f', {note}' if note else ''}")
