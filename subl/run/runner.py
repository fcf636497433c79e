"""Running a plan: cached stages are read, the others computed, and every step is recorded and tracked."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subl.context import Loader
from subl.errors import CheckError, StageError, SublError
from subl.recipe.model import Compute
from subl.run.estimates import work
from subl.run.mirror import Mirror
from subl.run.plan import Plan, Stage, StageKind, VariantPlan
from subl.run.record import RunRecord, Status
from subl.run.sink import Display, StageSink
from subl.run.stages import Work, run_stage
from subl.run.store import Entry, Metric, Store


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
    _ahead: dict[str, float] = field(default_factory=dict)
    """Fingerprint → seconds of stages that were computed before their variant's turn."""

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
                if stage.kind != "audit" or self._control_rows(plan, stage):
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

    def _control_rows(self, plan: VariantPlan, audit: Stage) -> bool:
        """Make the control arm's rows before its turn, so that a leak shows before hours of training are spent.

        Returns:
            Whether the audit can be made; with `keep_going` an arm can do without, and the next run makes up for it.
        """
        wanted = audit.inputs.get("control")
        control = next(
            (p for p in self.plan.variants if (rows := p.find("filter")) and rows.fingerprint == wanted), None
        )
        if control is None:
            return wanted is None
        try:
            for stage in control.until("filter"):
                if stage.kind not in ("check", "probe"):
                    started = time.monotonic()
                    if not self._result(control, stage, lambda _: None)[1]:
                        self._ahead[stage.fingerprint] = time.monotonic() - started
        except SublError as error:
            if not self.options.keep_going:
                raise
            self.display.warn(f"{plan.label}: no audit, because the control arm has no rows: {error}")
            return False
        return True

    def _stage(self, position: int, plan: VariantPlan, stage: Stage) -> None:
        started = time.monotonic()
        entry, cached = self._result(plan, stage, self.mirror.live(position, stage))
        ahead = self._ahead.pop(stage.fingerprint, 0.0)
        seconds = time.monotonic() - started + ahead
        new = not cached or ahead > 0
        self.record.event("stage", variant=plan.label, stage=stage.name, fingerprint=stage.fingerprint, cached=not new)
        self.record.stage_done(position, stage, entry, cached=not new, seconds=seconds)
        # What was made ahead did not reach the tracker then: its metrics are replayed like those of the store.
        self.mirror.stage(position, stage, entry, cached=cached)
        if new:
            self.display.say(f"{plan.label}: {stage.name} ({stage.plugin}) done in {seconds:.1f} s")
        if stage.kind == "check":
            self._judge(plan, stage, entry)

    def _result(self, plan: VariantPlan, stage: Stage, forward: Callable[[Metric], None]) -> tuple[Entry, bool]:
        """Return a stage's entry, computed if it is not in the store, and whether it was there."""
        with self.store.locked(stage.fingerprint, self.display.say) as entry:
            # What was made from a forced stage's earlier result is made again too.
            stale = stage.kind in self.options.force or not self._forced.isdisjoint(stage.inputs.values())
            if stale and stage.fingerprint not in self._forced:
                self._forced.add(stage.fingerprint)
                self.store.invalidate(stage.fingerprint)
            cached = self.store.cached(stage.fingerprint, self.display.warn)
            if not cached:
                self._compute(plan, stage, entry, forward)
        return entry, cached

    def _compute(self, plan: VariantPlan, stage: Stage, entry: Entry, forward: Callable[[Metric], None]) -> None:
        entry.begin()
        started = time.monotonic()
        sink = StageSink(
            stage=stage.name,
            work=entry.work,
            display=self.display,
            record=lambda message: self.record.event("log", stage=stage.name, message=message),
            forward=forward,
        )
        try:
            loader, device = self._loader(plan)
            work = Work(
                stage=stage,
                entry=entry,
                store=self.store,
                sink=sink,
                loader=loader,
                device=device,
                filtering=plan.find("filter") if stage.kind == "generate" else None,
                keep_going=self.options.keep_going,
                warn=self.display.warn,
            )
            artifact = run_stage(work)
            sink.close()
            entry.publish(artifact, _facts(stage, plan, time.monotonic() - started))
        except KeyboardInterrupt:
            # Whoever waits for a plugin that never ends learns which one it was.
            self.display.warn(f"interrupted in stage {stage.name} of {plan.label} ({_origin(stage)})")
            raise
        except CheckError:
            raise
        except Exception as error:
            self.record.event("error", stage=stage.name, error=repr(error))
            raise StageError(f"{stage.name} of {plan.label}", _origin(stage), error) from error
        finally:
            sink.close()

    def _judge(self, plan: VariantPlan, stage: Stage, entry: Entry) -> None:
        problems = entry.artifact().problems
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


def _facts(stage: Stage, plan: VariantPlan, seconds: float) -> Mapping[str, Any]:
    return {
        "stage": stage.kind,
        "name": stage.name,
        "plugin": stage.plugin,
        "key": stage.key,
        "seconds": round(seconds, 2),
        "units": work(stage, plan),
    }


def _origin(stage: Stage) -> str:
    origins = ", ".join(f"{chosen.kind} {chosen.name!r} from {chosen.entry.origin}" for chosen in stage.chosen)
    return origins or "no plugin"


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
