"""Processes that start in no time: forked from one that has imported everything, once per worker.

A fork is a process as a user's is: its own memory, folder, environment, signals and exit code. Two things it cannot
show: what an import costs or drags in, and whether results depend on the seed of string hashes, which the forks of one
worker share. Tests of those start Python themselves.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

IMPORTED = [
    "tests",
    "subl.cli",
    "subl.run.runner",
    "subl.report.document",
    "subl.report.summary",
    "subl.models.micro_training",
    "subl.models.generation",
    "subl.distillers.sft_training",
    "subl.probes.preference_measuring",
    "subl.probes.teacher_checking",
]
"""What a run imports while it works; of the rest, a fork imports what it needs."""

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(IMPORTED)


@atexit.register
def _end_what_failed_tests_left() -> None:
    # Python would wait for them.
    for process in multiprocessing.active_children():
        process.kill()


class Running:
    """A process that was started.

    Args:
        process: The process.
        texts: Folder for what it prints.
    """

    def __init__(self, process: BaseProcess, texts: tempfile.TemporaryDirectory[str]) -> None:
        self.process = process
        self._texts = texts

    def alive(self) -> bool:
        return self.process.is_alive()

    def wait(self, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Return exit code and texts; a process that takes longer is killed and is an error."""
        self.process.join(timeout)
        if self.process.is_alive():
            self.process.kill()
            raise subprocess.TimeoutExpired(self.process.name, timeout)
        assert self.process.exitcode is not None
        with self._texts as folder:
            out, err = ((Path(folder) / name).read_text(encoding="utf-8") for name in ("out", "err"))
        return subprocess.CompletedProcess(self.process.name, self.process.exitcode, out, err)


def start(function: Callable[..., Any], *arguments: Any, cwd: Path, **environment: str) -> Running:
    """Call a function of a module in a process of its own; what it returns is the exit code."""
    texts = tempfile.TemporaryDirectory(prefix="process-")
    call = (texts.name, cwd, {**os.environ, **environment}, function, arguments)
    process = _forks.Process(target=_work, args=call, name=function.__qualname__)
    process.start()
    return Running(process, texts)


def start_subl(*arguments: str, cwd: Path, **environment: str) -> Running:
    """Start the command line."""
    return start(_command_line, *arguments, cwd=cwd, **environment)


def subl(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line until it ends."""
    return start_subl(*arguments, cwd=cwd, **environment).wait()


def _command_line(*arguments: str) -> int:
    from subl.cli import main

    sys.argv = ["subl", *arguments]
    return main()


def _work(
    texts: str, cwd: Path, environment: dict[str, str], function: Callable[..., Any], arguments: Sequence[Any]
) -> None:
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(Path(texts) / name, os.O_WRONLY | os.O_CREAT), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.exit(function(*arguments))
