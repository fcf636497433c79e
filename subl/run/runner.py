"""Running a plan: cached stages are read, the others computed, and every step is recorded and tracked."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from subl.context import Loader
from subl.errors import CheckError, SublError
from subl.recipe.model import Compute
from subl.run.computing import Bench
from subl.run.mirror import Mirror
from subl.run.plan import Plan, Stage, StageKind, VariantPlan
from subl.run.record import RunRecord, Status
from subl.run.sink import Display
from subl.run.store import Entry, Store


@dataclass(frozen=True, slots=True)
class Options:
    """How to run, as opposed to what.

    Args:
        until: Stop after stages of this kind.
        force: Kinds of stages to compute again even if cached.
        keep_going: Failed checks only warn, and a failed variant does not stop the others.
    """

    until: StageKind | None = None
    force: frozenset[StageKind] = frozenset()
    keep_going: bool = False


@dataclass(slots=True)
class Runner:
    """Runs the variants of a plan one after the other.

    Args:
        plan: What to run.
        store: Where results are.
        record: The run folder.
        mirror: The tracker's view of this run.
        display: What the user sees.
        options: How to run.
        loader_for: Makes the model loader; called when the first stage is computed, because it imports torch.
        report: Writes the report into the run folder once the record is closed; its files are tracked too.
    """

    plan: Plan
    store: Store
    record: RunRecord
    mirror: Mirror
    display: Display
    options: Options
    loader_for: Callable[[Compute], tuple[Loader, str]]
    report: Callable[[Path], object]
    _loaders: dict[Compute, tuple[Loader, str]] = field(default_factory=dict)
    _forced: set[str] = field(default_factory=set)

    def run(self) -> Status:
        """Run everything; return how it ended.

        Raises:
            SublError: A stage failed and `keep_going` is off. The record and the tracker know before.
            KeyboardInterrupt: After the record and the tracker were told.
        """
        status: Status = "failed"
        try:
            failures = [self._variant(position, self.plan.variants[position]) for position in self.plan.order()]
            status = "failed" if any(failures) else "finished"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            try:
                self.record.close(status)
                self.report(self.record.folder)
            finally:
                self.mirror.finish(status)
        return status

    def _variant(self, position: int, plan: VariantPlan) -> bool:
        """Run one variant; return whether it failed."""
        self.mirror.begin(position)
        try:
            for stage in plan.until(self.options.until):
                self._stage(position, plan, stage)
        except KeyboardInterrupt:
            self._end(position, "interrupted", None)
            raise
        except SublError as error:
            self._end(position, "failed", str(error))
            if not self.options.keep_going:
                raise
            self.display.warn(f"{plan.label}: {error}")
            return True
        except BaseException as error:
            self._end(position, "failed", f"{type(error).__name__}: {error}")
            raise
        self._end(position, "finished", None)
        return False

    def _end(self, position: int, status: Status, error: str | None) -> None:
        self.record.variant_done(position, status, error)
        self.mirror.end(position, status, self.record.variant(position))

    def _stage(self, position: int, plan: VariantPlan, stage: Stage) -> None:
        started = time.monotonic()
        with self.store.locked(stage.fingerprint, self.display.say) as entry:
            # What was made from a forced stage's earlier result is made again too.
            stale = stage.kind in self.options.force or not self._forced.isdisjoint(stage.inputs.values())
            if stale and stage.fingerprint not in self._forced:
                self._forced.add(stage.fingerprint)
                self.store.invalidate(stage.fingerprint)
            cached = self.store.cached(stage.fingerprint, self.display.warn)
            if not cached:
                self._compute(position, plan, stage, entry)
        seconds = time.monotonic() - started
        self.record.event("stage", variant=plan.label, stage=stage.name, fingerprint=stage.fingerprint, cached=cached)
        self.record.stage_done(position, stage, entry, cached=cached, seconds=seconds)
        self.mirror.stage(position, stage, entry, cached=cached)
        if not cached:
            self.display.say(f"{plan.label}: {stage.name} ({stage.plugin}) done in {seconds:.1f} s")
        if stage.kind == "check":
            self._judge(plan, stage, entry, fresh=not cached)

    def _compute(self, position: int, plan: VariantPlan, stage: Stage, entry: Entry) -> None:
        bench = Bench(
            recipe=plan.variant.recipe,
            label=plan.label,
            store=self.store,
            display=self.display,
            loader=lambda: self._loader(plan),
            event=self.record.event,
            forward=self.mirror.live(position, stage),
            keep_going=self.options.keep_going,
        )
        bench.compute(stage, entry, plan.find("filter") if stage.kind == "generate" else None)

    def _judge(self, plan: VariantPlan, stage: Stage, entry: Entry, *, fresh: bool) -> None:
        found = entry.artifact()
        for remark in found.remarks if fresh else ():
            self.display.say(f"{plan.label}: {stage.name}: {remark}")
        problems = found.problems
        if not problems:
            return
        listed = "\n".join(f"  - {problem}" for problem in problems)
        message = f"{plan.label}: the teacher did not pass the check ({stage.plugin}):\n{listed}"
        if not self.options.keep_going:
            raise CheckError(f"{message}\nchange the recipe, or go on with --keep-going")
        self.display.warn(message)

    def _loader(self, plan: VariantPlan) -> tuple[Loader, str]:
        compute = plan.variant.recipe.compute
        if compute not in self._loaders:
            self._loaders[compute] = self.loader_for(compute)
        return self._loaders[compute]


def torch_loader(compute: Compute) -> tuple[Loader, str]:
    """Return a loader for models and the device that "auto" means here."""
    from subl.models.loader import ModelLoader, prepare_cpu, resolve_device

    device = resolve_device(compute.device)
    if "torch" in sys.modules or compute.threads is not None:
        prepare_cpu(compute.threads)
    return ModelLoader(device=device, dtype=compute.dtype), device


def project_home(store: Path | None) -> Path:
    """Return the project's folder for results: `--store DIR`, else `.subl` here."""
    return (store or Path(".subl")).absolute()
