"""Where jobs are computed. The runner decides what comes next; an executor only does it, here or elsewhere."""

from __future__ import annotations

import os
from typing import Protocol, TypeAlias

from subl.errors import RecipeError, SublError
from subl.models.loader import visible_gpus
from subl.recipe.model import Compute
from subl.run.jobs import Done, Job, LoaderFor, Loaders, Outlet, fulfil, torch_loader
from subl.run.plan import Plan
from subl.run.store import Store

Outcome: TypeAlias = Done | SublError


class Executor(Protocol):
    """Computes jobs, at most `slots` at a time."""

    @property
    def slots(self) -> int:
        """How many jobs run side by side."""
        ...

    def submit(self, job: Job, outlet: Outlet) -> None:
        """Take a job; only while fewer than `slots` are under way."""
        ...

    def wait(self) -> tuple[Job, Outcome]:
        """Wait until a job has ended, and say how; what running jobs report meanwhile goes to their outlets.

        Raises:
            KeyboardInterrupt: The user, or a plugin, stopped the run.
        """
        ...

    def close(self) -> None:
        """Stop whatever still runs; what it left is resumable."""
        ...


class Sequential:
    """Computes one job after the other in this process."""

    slots = 1

    def __init__(self, store: Store, loader_for: LoaderFor) -> None:
        self._store = store
        self._loaders = Loaders(loader_for)
        self._next: tuple[Job, Outlet] | None = None

    def submit(self, job: Job, outlet: Outlet) -> None:
        """Keep the job until `wait`."""
        self._next = job, outlet

    def wait(self) -> tuple[Job, Outcome]:
        """Compute the job that was submitted."""
        assert self._next is not None
        (job, outlet), self._next = self._next, None
        try:
            return job, fulfil(job, self._store, outlet, self._loaders)
        except SublError as error:
            return job, error

    def close(self) -> None:
        """Do nothing: nothing runs between two calls."""


def executor_for(plan: Plan, store: Store, workers: int) -> Executor:
    """Return what computes a plan's stages: this process, or several workers.

    Raises:
        RecipeError: [compute] asks for what this machine, or several workers, cannot give.
    """
    if "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError(
            "subl was started by a launcher, once per process; start it plainly and set [compute] processes = N, or "
            "--workers N: it starts its processes itself"
        )
    sections = [variant.variant.recipe.compute for variant in plan.variants]
    processes = max(compute.processes for compute in sections)
    gpus = visible_gpus() if any(compute.device != "cpu" for compute in sections) else ()
    if gpus and processes > len(gpus):
        raise RecipeError(f"[compute] processes = {processes}, but there are {len(gpus)} GPUs here; set it to that")
    if workers == 1:
        return Sequential(store, torch_loader)
    for compute in sections:
        _check_device(compute)
    from subl.run.pool import Pool

    return Pool(workers, home=store.home, gpus=gpus, processes=processes)


def _check_device(compute: Compute) -> None:
    if ":" in compute.device:
        raise RecipeError(
            f'[compute] device = "{compute.device}" ties every stage to one GPU, which --workers cannot share out; '
            f'set device = "{compute.device.partition(":")[0]}"'
        )
