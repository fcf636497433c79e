"""A job: one stage to compute, in this process or in another, under the lock of its store entry."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from subl.context import Loader
from subl.errors import CheckError, StageError
from subl.recipe.model import Compute
from subl.run.plan import Stage
from subl.run.sink import Display, StageSink
from subl.run.stages import Work, run_stage
from subl.run.store import Entry, Metric, Store

LoaderFor: TypeAlias = Callable[[Compute], tuple[Loader, str]]


@dataclass(frozen=True, slots=True)
class Job:
    """A stage of a variant, and all that computing it takes; can be sent to another process.

    Args:
        stage: The stage.
        label: The variant for which it is computed first, for people.
        filtering: The filter stage that follows a generate stage.
        compute: The recipe's [compute].
        keep_going: Whether failed checks only warn.
        units: Updates or rows, as the estimates count them.
        since: Results made before (seconds since 1970) do not count; 0 takes any.
    """

    stage: Stage
    label: str
    filtering: Stage | None
    compute: Compute
    keep_going: bool
    units: int
    since: float

    @property
    def title(self) -> str:
        """What is computed for whom, for people."""
        return f"{self.stage.name} of {self.label}"

    @property
    def origin(self) -> str:
        """The plugins that do it, and where they come from."""
        origins = ", ".join(f"{chosen.kind} {chosen.name!r} from {chosen.entry.origin}" for chosen in self.stage.chosen)
        return origins or "no plugin"

    @property
    def spread(self) -> bool:
        """Whether several processes share the work."""
        return self.compute.processes > 1 and any(chosen.distributed for chosen in self.stage.chosen)


@dataclass(frozen=True, slots=True)
class Done:
    """How a job ended well: whether the result was there, and how long it took."""

    cached: bool
    seconds: float


class Outlet(Display, Protocol):
    """Where a running job's messages, events and metrics go."""

    def event(self, name: str, facts: Mapping[str, Any]) -> None:
        """Record an event of the run."""
        ...

    def metric(self, metric: Metric) -> None:
        """Pass a live metric on to the tracker."""
        ...


class Loaders:
    """One model loader per [compute] section, made when the first stage needs it, because that imports torch."""

    def __init__(self, make: LoaderFor) -> None:
        self._make = make
        self._made: dict[Compute, tuple[Loader, str]] = {}

    def __call__(self, compute: Compute) -> tuple[Loader, str]:
        """Return the loader, and the device that "auto" means."""
        if compute not in self._made:
            self._made[compute] = self._make(compute)
        return self._made[compute]


def fulfil(job: Job, store: Store, outlet: Outlet, loaders: Loaders) -> Done:
    """See to it that the job's result is in the store; another process that computes it is awaited.

    Raises:
        CheckError: A check stopped it.
        StageError: It failed; names the stage and the plugin.
    """
    started = time.monotonic()
    with store.locked(job.stage.fingerprint, outlet.say) as entry:
        cached = store.cached(job.stage.fingerprint, outlet.warn, since=job.since)
        if not cached:
            entry.begin()
            if job.spread:
                from subl.run.together import compute_together

                compute_together(job, store, outlet)
            else:
                compute(job, store, entry, outlet, loaders)
    return Done(cached, time.monotonic() - started)


def compute(job: Job, store: Store, entry: Entry, outlet: Outlet, loaders: Loaders) -> None:
    """Compute a job's stage in this process into its entry, which has begun, and publish it.

    Raises:
        CheckError: A check stopped it.
        StageError: It failed; names the stage and the plugin.
    """
    stage = job.stage
    started = time.monotonic()
    sink = StageSink(
        stage=stage.name,
        work=entry.work,
        display=outlet,
        record=lambda message: outlet.event("log", {"stage": stage.name, "message": message}),
        forward=outlet.metric,
    )
    try:
        loader, device = loaders(job.compute)
        work = Work(
            stage=stage,
            out=entry.folder,
            work=entry.work,
            store=store,
            sink=sink,
            loader=loader,
            device=device,
            filtering=job.filtering,
            keep_going=job.keep_going,
            warn=outlet.warn,
        )
        artifact = run_stage(work)
        sink.close()
        entry.publish(artifact, _facts(job, time.monotonic() - started, work.shared))
    except CheckError:
        raise
    except Exception as error:
        outlet.event("error", {"stage": stage.name, "error": repr(error)})
        raise StageError(job.title, job.origin, error) from error
    finally:
        sink.close()


def _facts(job: Job, seconds: float, shared: Mapping[str, int]) -> Mapping[str, Any]:
    stage = job.stage
    return {
        "stage": stage.kind,
        "name": stage.name,
        "plugin": stage.plugin,
        "key": stage.key,
        "seconds": round(seconds, 2),
        "units": job.units,
        "shared": dict(shared),
    }


def torch_loader(compute: Compute) -> tuple[Loader, str]:
    """Return a loader for models and the device that "auto" means here."""
    from subl.models.loader import ModelLoader, prepare_cpu, resolve_device

    device = resolve_device(compute.device)
    if "torch" in sys.modules or compute.threads is not None:
        prepare_cpu(compute.threads)
    return ModelLoader(device=device, dtype=compute.dtype), device
