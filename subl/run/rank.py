"""Run by torch's launcher, once per process: does its part of the stage that the starting process hands it."""

from __future__ import annotations

import ast
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Client, Connection
from pathlib import Path

from subl.context import Bar
from subl.errors import ModelError
from subl.run.jobs import Job, Loaders, compute, torch_loader
from subl.run.remote import Sender
from subl.run.stages import Work, run_stage
from subl.run.store import Store
from subl.run.together import MEETING
from subl.run.worker import DONE, INTERRUPTED, failure, prepare, unpacked

LONGEST_WAIT = timedelta(hours=6)
"""How long the others wait for process 0, which alone saves and publishes."""


def main() -> int:
    """Do this process's part; return the exit code."""
    key, _, address = os.environ.pop(MEETING).partition(" ")
    where = ast.literal_eval(address) if address.startswith("(") else address
    connection = Client(where, authkey=bytes.fromhex(key))
    place = connection.recv()
    prepare(place)
    sender = Sender(connection)
    data, job = connection.recv_bytes(), None
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    try:
        job = unpacked(data)
        _join(job)
        store, loaders = Store(place.home), Loaders(torch_loader)
        entry = store.entry(job.stage.fingerprint)
        if int(os.environ["RANK"]) == 0:
            compute(job, store, entry, sender, loaders)
            sender.send(DONE)
        else:
            _accompany(job, store, entry.work, loaders)
        _part()
    except KeyboardInterrupt:
        sender.send(INTERRUPTED, time.time())
        return 1
    except BaseException as error:
        sender.send(*failure(job, error), time.time())
        return 1
    return 0


def _end_with(connection: Connection) -> None:
    """End this process when the one that started it is gone."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os._exit(1)


def _join(job: Job) -> None:
    """Meet the other processes."""
    sharded = [name for name in ("FSDP", "DEEPSPEED") if os.environ.get(f"ACCELERATE_USE_{name}", "false") != "false"]
    if sharded:
        raise ModelError(
            f"accelerate is set up for {sharded[0]}, which spreads the weights; subl saves whole models and takes no "
            f"more than a copy per process: unset ACCELERATE_USE_{sharded[0]}"
        )
    from subl.models.loader import resolve_device

    if resolve_device(job.compute.device) == "cpu":
        # Without it, accelerate takes every process for the only one.
        os.environ["ACCELERATE_USE_CPU"] = "true"
        backend = "gloo"
    else:
        import torch

        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "nccl"
    from torch import distributed

    distributed.init_process_group(backend, timeout=LONGEST_WAIT)


def _part() -> None:
    from torch import distributed

    distributed.barrier()
    distributed.destroy_process_group()


def _accompany(job: Job, store: Store, work: Path, loaders: Loaders) -> None:
    """Do the work of a process other than 0: the same, but nobody hears of it and its files are thrown away."""
    loader, device = loaders(job.compute)
    with tempfile.TemporaryDirectory() as out:
        run_stage(
            Work(
                stage=job.stage,
                out=Path(out),
                work=work,
                store=store,
                sink=_Silent(),
                loader=loader,
                device=device,
                filtering=None,
                keep_going=job.keep_going,
                warn=lambda _: None,
            )
        )


class _Silent:
    """A sink that nobody hears."""

    def log(self, message: str) -> None:
        pass

    def metric(self, name: str, value: float, step: int | None) -> None:
        pass

    @contextmanager
    def bar(self, label: str, total: int | None, done: int) -> Iterator[Bar]:  # noqa: ARG002
        yield _SilentBar()


class _SilentBar:
    def advance(self, steps: int = 1, *, note: str = "") -> None:
        pass


if __name__ == "__main__":
    sys.exit(main())
