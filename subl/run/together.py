"""One stage in several processes, started by torch's own launcher; process 0 reports and publishes the result."""

from __future__ import annotations

import os
import pickle
import queue
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import IO, Any, TypeAlias

import subl
from subl.errors import StageError, SublError
from subl.run.jobs import Job, Outlet
from subl.run.remote import Replay
from subl.run.store import Store
from subl.run.worker import DONE, FAILED, INTERRUPTED, Place, outcome

MEETING = "SUBL_MEETING"
"""Variable with the address and the key of the process that started the others."""
GRACE_SECONDS = 20.0

Messages: TypeAlias = "queue.SimpleQueue[tuple[Any, ...]]"


def compute_together(job: Job, store: Store, outlet: Outlet) -> None:
    """Compute a job's stage in `[compute] processes` processes; its entry has begun.

    Raises:
        SublError: It failed.
        KeyboardInterrupt: The user, or a plugin, stopped the run.
    """
    messages: Messages = queue.SimpleQueue()
    with tempfile.TemporaryFile() as output, Replay(outlet) as replay:
        with _meeting(job, Place.like_here(store.home, {}), messages) as (meeting, listeners):
            process = _launch(job, meeting, output)
            try:
                early = _follow(process, listeners, messages, replay)
            finally:
                _stop(process)
        if early:
            raise _cause(early)
        if process.returncode:
            raise StageError(job.title, job.origin, RuntimeError(_last_words(output, process.returncode)))


@contextmanager
def _meeting(job: Job, place: Place, messages: Messages) -> Iterator[tuple[str, list[threading.Thread]]]:
    """Wait for the processes at an address of this machine, hand each the job, and gather what they send."""
    key = secrets.token_bytes(16)
    listener = Listener(authkey=key)
    listeners: list[threading.Thread] = []

    def hear(connection: Connection) -> None:
        try:
            while True:
                messages.put(connection.recv())
        except (EOFError, OSError):
            return

    def meet() -> None:
        try:
            for _ in range(job.compute.processes):
                connection = listener.accept()
                connection.send(place)
                connection.send_bytes(pickle.dumps(job))
                thread = threading.Thread(target=hear, args=(connection,), daemon=True)
                listeners.append(thread)
                thread.start()
        except (EOFError, OSError):
            return

    threading.Thread(target=meet, daemon=True).start()
    try:
        yield f"{key.hex()} {listener.address}", listeners
    finally:
        listener.close()


def _launch(job: Job, meeting: str, output: IO[bytes]) -> subprocess.Popen[bytes]:
    processes = job.compute.processes
    threads = job.compute.threads or max(1, (os.cpu_count() or 1) // processes)
    root = str(Path(subl.__file__).resolve().parents[1])
    environment = {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        "PYTHONPATH": os.pathsep.join([root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]).rstrip(os.pathsep),
        MEETING: meeting,
    }
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.Popen(  # noqa: S603 (our own code)
        [sys.executable, *launcher, "-m", "subl.run.rank"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # Ctrl-C is for the first process, which then stops the others
    )


def _follow(
    process: subprocess.Popen[bytes], listeners: list[threading.Thread], messages: Messages, replay: Replay
) -> list[tuple[Any, ...]]:
    """Pass on what the processes report until all have ended; return the messages of those that ended early."""
    early: list[tuple[Any, ...]] = []
    while True:
        try:
            message = messages.get(timeout=0.2)
        except queue.Empty:
            if process.poll() is None:
                continue
            for thread in listeners:
                thread.join(GRACE_SECONDS)
            if messages.empty():
                return early
            continue
        if message[0] in (FAILED, INTERRUPTED):
            early.append(message)
        elif message[0] != DONE:
            replay(*message)


def _cause(early: list[tuple[Any, ...]]) -> SublError:
    """Return why the first process ended early: the others then lose it, or are interrupted by the launcher.

    Raises:
        KeyboardInterrupt: A plugin stopped the run.
    """
    failed = outcome(min(early, key=lambda message: message[-1])[:-1])
    assert isinstance(failed, SublError)
    return failed


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    try:
        process.wait(deadline - time.monotonic())
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_words(output: IO[bytes], code: int) -> str:
    output.seek(0)
    lines = [line for line in output.read().decode(errors="replace").splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else "no output")
    return f"its processes ended with exit code {code}: {said.strip()[:300]}"
