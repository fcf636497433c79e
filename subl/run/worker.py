"""The worker process: computes jobs that come through a pipe, one after the other, and reports through it."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from subl.errors import CheckError, PluginError, StageError, SublError
from subl.registry.local import load_local
from subl.registry.registry import registry
from subl.run.jobs import Done, Job, Loaders, fulfil, torch_loader
from subl.run.remote import Sender
from subl.run.store import Store

DONE, FAILED, INTERRUPTED = "done", "failed", "interrupted"
"""The messages that end a job; all others are an outlet's calls."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process works.

    Args:
        home: The project's folder for results.
        plugin_files: Local plugin files that jobs may use.
        environment: Variables to set before anything is imported that reads them.
    """

    home: Path
    plugin_files: tuple[Path, ...]
    environment: Mapping[str, str]

    @classmethod
    def like_here(cls, home: Path, environment: Mapping[str, str]) -> Place:
        """Return a place with the local plugins that are loaded in this process."""
        files = (Path(entry.origin.where) for entry in registry.entries() if entry.origin.source == "local")
        return cls(home, tuple(dict.fromkeys(files)), environment)


def serve(connection: Connection, place: Place) -> None:
    """Compute jobs until the pipe is closed. SIGTERM interrupts the job under way and ends the process."""
    prepare(place)
    parent = parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    store, loaders, sender = Store(place.home), Loaders(torch_loader), Sender(connection)
    try:
        while True:
            sender.send(*answer(connection.recv_bytes(), store, sender, loaders))
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _end_with(parent: BaseProcess) -> None:
    """End this process when the one that started it is gone."""
    parent.join()
    os._exit(1)


def prepare(place: Place) -> None:
    """Set this process up: signals, environment, local plugins.

    Ctrl-C reaches every process of a terminal; the first one alone decides what becomes of the others.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    os.environ.update(place.environment)
    for path in place.plugin_files:
        with suppress(PluginError):  # edited meanwhile; a job that needs it says so when it is unpacked
            load_local(path)


def answer(data: bytes, store: Store, sender: Sender, loaders: Loaders) -> tuple[Any, ...]:
    """Compute a packed job; return the message that says how it ended."""
    job = None
    try:
        job = unpacked(data)
        return DONE, fulfil(job, store, sender, loaders)
    except KeyboardInterrupt:
        return (INTERRUPTED,)
    except BaseException as error:
        return failure(job, error)


def failure(job: Job | None, error: BaseException) -> tuple[Any, ...]:
    """Return the message for a job that failed; None for one that could not be unpacked."""
    known = error if isinstance(error, SublError) or job is None else StageError(job.title, job.origin, error)
    return FAILED, CheckError if isinstance(known, CheckError) else SublError, str(known)


def outcome(message: tuple[Any, ...]) -> Done | SublError:
    """Read a message that ends a job.

    Raises:
        KeyboardInterrupt: A plugin stopped the run.
    """
    if message[0] == INTERRUPTED:
        raise KeyboardInterrupt
    if message[0] == FAILED:
        _, kind, text = message
        return kind(text)  # type: ignore[no-any-return]
    return message[1]  # type: ignore[no-any-return]


def unpacked(data: bytes) -> Job:
    """Read a job.

    Raises:
        PluginError: A local plugin file was edited while the run went on.
    """
    try:
        job: Job = pickle.loads(data)  # noqa: S301 (from our own parent)
    except (ModuleNotFoundError, AttributeError) as error:
        raise PluginError(f"a plugin's file changed while the run went on ({error}); run the same command") from error
    return job


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
