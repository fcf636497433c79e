"""Worker processes on this machine that compute jobs side by side, one GPU each where there are GPUs."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from subl.errors import StageError, SublError
from subl.run.jobs import Done, Job, Outlet
from subl.run.remote import Replay
from subl.run.worker import DONE, FAILED, INTERRUPTED, Place, outcome, serve

GRACE_SECONDS = 15.0
"""How long an interrupted worker may take to put its work away before it is killed, which loses nothing either."""


@dataclass(slots=True)
class _Worker:
    number: int
    process: BaseProcess
    pipe: Connection
    job: Job | None = None
    replay: Replay = field(init=False)


class Pool:
    """Starts workers as jobs come, at most `slots`, and keeps them: each imports frameworks and loads models once.

    Args:
        slots: How many workers.
        home: The project's folder for results.
        gpus: Names of this machine's GPUs, as CUDA_VISIBLE_DEVICES takes them; empty where jobs use none.
        processes: How many processes share one job, each with a GPU of its own.
    """

    def __init__(self, slots: int, *, home: Path, gpus: Sequence[str] = (), processes: int = 1) -> None:
        self.slots = slots
        self._places = [Place.like_here(home, _environment(number, slots, gpus, processes)) for number in range(slots)]
        self._workers: list[_Worker] = []

    def submit(self, job: Job, outlet: Outlet) -> None:
        """Give a job to an idle worker, or to a new one."""
        self._forget_dead()
        worker = next((each for each in self._workers if each.job is None), None) or self._start()
        worker.job, worker.replay = job, Replay(outlet)
        with suppress(OSError):  # a worker that dies this moment is found out by `wait`
            worker.pipe.send_bytes(pickle.dumps(job))

    def wait(self) -> tuple[Job, Done | SublError]:
        """Pass on what workers report until a job has ended.

        Raises:
            KeyboardInterrupt: The user, or a plugin, stopped the run.
        """
        while True:
            busy = {worker.pipe: worker for worker in self._workers if worker.job is not None}
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                assert worker.job is not None
                job = worker.job
                try:
                    message = worker.pipe.recv()
                except (EOFError, OSError):
                    return job, self._bury(worker, job)
                if message[0] not in (DONE, FAILED, INTERRUPTED):
                    worker.replay(*message)
                    continue
                worker.job = None
                with worker.replay:
                    return job, outcome(message)

    def close(self) -> None:
        """Stop all workers; those at work get some seconds to put it away."""
        for worker in self._workers:
            if worker.job is not None:
                worker.process.terminate()
            worker.pipe.close()
        deadline = time.monotonic() + GRACE_SECONDS
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            if worker.job is not None:
                worker.replay.__exit__()
        self._workers.clear()

    def _forget_dead(self) -> None:
        """Forget workers that died while idle, so that no job is lost to one: new ones take their places."""
        for worker in [each for each in self._workers if each.job is None and not each.process.is_alive()]:
            worker.pipe.close()
            self._workers.remove(worker)

    def _start(self) -> _Worker:
        taken = {worker.number for worker in self._workers}
        number = next(each for each in range(self.slots) if each not in taken)
        context = get_context("spawn")  # a fork would copy the threads' locks, and a GPU does not survive it
        ours, theirs = context.Pipe()
        process = context.Process(
            target=serve, args=(theirs, self._places[number]), name=f"subl worker {number + 1}", daemon=False
        )
        process.start()
        theirs.close()
        worker = _Worker(number, process, ours)
        self._workers.append(worker)
        return worker

    def _bury(self, worker: _Worker, job: Job) -> SublError:
        """Return why a worker's job failed that died without a word; a new one takes its place."""
        worker.process.join(GRACE_SECONDS)
        worker.replay.__exit__()
        worker.pipe.close()
        self._workers.remove(worker)
        code = worker.process.exitcode or 0
        how = f"by signal {-code}; the machine may be short of memory" if code < 0 else f"with exit code {code}"
        return StageError(job.title, job.origin, RuntimeError(f"its worker process ended {how}"))


def _environment(number: int, slots: int, gpus: Sequence[str], processes: int) -> dict[str, str]:
    """Return what a worker sets: its own GPUs, and its share of the processor unless the user chose."""
    environment = {}
    if gpus:
        first = number * processes
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[(first + i) % len(gpus)] for i in range(processes))
    if "OMP_NUM_THREADS" not in os.environ:
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // (slots * processes)))
    return environment
