"""Running a plan: what is ready goes to an executor, what is done is recorded and tracked, in the order of the plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subl.artifacts import Findings
from subl.context import Bar
from subl.errors import CheckError, SublError
from subl.run.agenda import renewed, upstream
from subl.run.branch import Branch
from subl.run.estimates import work
from subl.run.executors import Executor
from subl.run.jobs import Done, Job
from subl.run.mirror import Mirror
from subl.run.plan import Plan, Stage, StageKind, VariantPlan
from subl.run.record import RunRecord, Status
from subl.run.sink import Display
from subl.run.store import Metric, Store


@dataclass(frozen=True, slots=True)
class Options:
    """How to run, as opposed to what.

    Args:
        until: Stop after stages of this kind.
        force: Kinds of stages to compute again even if cached.
        keep_going: Failed checks only warn, and a failed variant does not stop the others.
        workers: Processes that compute stages side by side; with several, a failed variant never stops the others.
        started: When the run that is gone on with was started, in seconds since 1970: what it forced and finished
            since is kept. None: now.
    """

    until: StageKind | None = None
    force: frozenset[StageKind] = frozenset()
    keep_going: bool = False
    workers: int = 1
    started: float | None = None

    def recorded(self) -> dict[str, Any]:
        """Return as JSON values what `subl resume` needs to know again."""
        started = self.started or time.time()
        return {"until": self.until, "force": sorted(self.force), "keep_going": self.keep_going, "started": started}


@dataclass(slots=True)
class Runner:
    """Runs a plan.

    Args:
        plan: What to run.
        store: Where results are.
        record: The run folder.
        mirror: The tracker's view of this run.
        display: What the user sees.
        options: How to run.
        executor: Computes stages; closed at the end.
        report: Writes the report into the run folder once the record is closed; its files are tracked too.
    """

    plan: Plan
    store: Store
    record: RunRecord
    mirror: Mirror
    display: Display
    options: Options
    executor: Executor
    report: Callable[[Path], object]
    _started: float = 0.0
    _renewed: frozenset[str] = frozenset()
    _upstream: Mapping[str, frozenset[str]] = field(default_factory=dict)
    _branches: list[Branch] = field(default_factory=list)
    _running: dict[str, tuple[Job, Branch]] = field(default_factory=dict)
    _owners: dict[str, Branch] = field(default_factory=dict)
    _done: dict[str, Done] = field(default_factory=dict)
    _failed: dict[str, SublError] = field(default_factory=dict)

    def run(self) -> Status:
        """Run everything; return how it ended.

        Raises:
            SublError: A stage failed, with one worker and without `keep_going`. The record and the tracker know before.
            KeyboardInterrupt: After the record and the tracker were told.
        """
        self._started = self.options.started or time.time()
        self._renewed = renewed(self.plan, self.options.force)
        self._upstream = upstream(self.plan)
        for position in self.plan.order():
            plan = self.plan.variants[position]
            self._branches.append(Branch(position, plan, plan.until(self.options.until)))
        if self.executor.slots > 1:
            # What is there first, if such a run ends early, should be what all others are compared with.
            self._branches.sort(key=lambda branch: not branch.is_control)
        status: Status = "failed"
        try:
            self._work()
            ended = [self.record.variant(branch.position)["status"] for branch in self._branches]
            status = "finished" if all(each == "finished" for each in ended) else "failed"
        except KeyboardInterrupt:
            status = "interrupted"
            for job, _ in self._running.values():
                # Whoever waits for a plugin that never ends learns which one it was.
                self.display.warn(f"interrupted in stage {job.title} ({job.origin})")
            self._end_open(status, None)
            raise
        except BaseException as error:
            self._end_open(status, f"{type(error).__name__}: {error}")
            raise
        finally:
            try:
                self.executor.close()
                self.record.close(status)
                self.report(self.record.folder)
            finally:
                self.mirror.finish(status)
        return status

    def _work(self) -> None:
        while True:
            for branch in self._branches:
                self._settle(branch)
            if len(self._running) < self.executor.slots and (found := self._next()) is not None:
                self._start(*found)
            elif self._running:
                self.record.write()  # a kill during the wait loses nothing
                self._take(*self.executor.wait())
            elif not (self._skip_audits() or self._give_up_blocked()):
                return

    def _next(self) -> tuple[Branch, Stage] | None:
        """Return the first stage that is ready, of the first variant that has one, or that waits for one of another."""
        for branch in self._branches:
            if own := self._ready(branch):
                return branch, own[0]
            awaited = frozenset() if branch.ended else self._upstream[branch.next.fingerprint]
            for other in self._branches if awaited else ():
                for stage in self._ready(other):
                    if stage.fingerprint in awaited:
                        return other, stage
        return None

    def _ready(self, branch: Branch) -> list[Stage]:
        busy = self._running.keys() | self._failed.keys()
        return [] if branch.ended else [s for s in branch.ready(self._done) if s.fingerprint not in busy]

    def _start(self, branch: Branch, stage: Stage) -> None:
        self._begin(branch)
        job = Job(
            stage=stage,
            label=branch.plan.label,
            filtering=branch.plan.find("filter") if stage.kind == "generate" else None,
            compute=branch.plan.variant.recipe.compute,
            keep_going=self.options.keep_going,
            units=work(stage, branch.plan.variant.recipe),
            since=self._since(stage),
        )
        self._owners[stage.fingerprint] = branch
        if self._is_cached(job):
            self._done[stage.fingerprint] = Done(cached=True, seconds=0.0)
            return
        self._running[stage.fingerprint] = job, branch
        self.executor.submit(job, _BranchOutlet(self, branch, stage))

    def _is_cached(self, job: Job) -> bool:
        """Return whether the result is there, so that no worker need be asked."""
        fingerprint = job.stage.fingerprint
        if not self.store.entry(fingerprint).complete:
            return False
        with self.store.locked(fingerprint, self.display.say):
            return self.store.cached(fingerprint, self.display.warn, since=job.since)

    def _since(self, stage: Stage) -> float:
        """Return from when on a result counts: from this run's start where it is forced, from its inputs' on after.

        So two runs that force the same stage share what either has made meanwhile.
        """
        if stage.fingerprint not in self._renewed:
            return 0.0
        forced = self._started if stage.kind in self.options.force else 0.0
        inputs = [self.store.entry(each).created() for each in stage.inputs.values() if each in self._renewed]
        return max([forced, *inputs])

    def _take(self, job: Job, outcome: Done | SublError) -> None:
        """Note how a job ended."""
        fingerprint = job.stage.fingerprint
        del self._running[fingerprint]
        if isinstance(outcome, SublError):
            self._failed[fingerprint] = outcome
            return
        self._done[fingerprint] = outcome
        if not outcome.cached:
            self.display.say(f"{job.label}: {job.stage.name} ({job.stage.plugin}) done in {outcome.seconds:.1f} s")

    def _settle(self, branch: Branch) -> None:
        """Record what is done of a variant, in the order of its plan, whatever the order in which it was computed."""
        while not branch.ended and branch.settled < len(branch.stages):
            stage = branch.next
            if stage.fingerprint in self._failed:
                self._fail(branch, self._failed[stage.fingerprint])
                return
            if stage.fingerprint not in self._done:
                return
            self._begin(branch)
            try:
                self._record(branch, stage)
            except SublError as error:
                self._fail(branch, error)
                return
            branch.settled += 1
        if not branch.ended:
            self._end(branch, "finished", None)

    def _record(self, branch: Branch, stage: Stage) -> None:
        mine = self._owners[stage.fingerprint] is branch
        done = self._done[stage.fingerprint] if mine else Done(cached=True, seconds=0.0)
        entry, label = self.store.entry(stage.fingerprint), branch.plan.label
        self.record.event("stage", variant=label, stage=stage.name, fingerprint=stage.fingerprint, cached=done.cached)
        self.record.stage_done(branch.position, stage, entry, cached=done.cached, seconds=done.seconds)
        self.mirror.stage(branch.position, stage, entry, cached=done.cached)
        if stage.kind == "check":
            self._judge(branch.plan, stage, fresh=not done.cached)
        elif stage.kind == "audit" and mine:
            for problem in entry.artifact().problems:
                self.display.warn(f"{label}: {problem}")

    def _judge(self, plan: VariantPlan, stage: Stage, *, fresh: bool) -> None:
        found: Findings = self.store.entry(stage.fingerprint).artifact()
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

    def _skip_audits(self) -> bool:
        """Let the arms go on whose control failed before it had rows; return whether there were any."""
        blocked = [branch for branch in self._branches if not branch.ended and branch.next.kind == "audit"]
        for branch in blocked:
            self.display.warn(f"{branch.plan.label}: no audit, because the control arm has no rows")
            branch.settled += 1
        return bool(blocked)

    def _give_up_blocked(self) -> bool:
        """End the variants that wait for what will never come; return whether there were any."""
        blocked = [branch for branch in self._branches if not branch.ended]
        for branch in blocked:
            self._fail(branch, SublError(f"{branch.next.name} reads results of another variant, which failed"))
        return bool(blocked)

    def _begin(self, branch: Branch) -> None:
        if not branch.begun:
            branch.begun = True
            self.mirror.begin(branch.position)

    def _fail(self, branch: Branch, error: SublError) -> None:
        self._end(branch, "failed", str(error))
        if self.executor.slots == 1 and not self.options.keep_going:
            raise error
        text, label = str(error), f"{branch.plan.label}: "
        self.display.warn(text if text.startswith(label) else label + text)

    def _end_open(self, status: Status, error: str | None) -> None:
        for branch in self._branches:
            if branch.begun and not branch.ended:
                self._end(branch, status, error)

    def _end(self, branch: Branch, status: Status, error: str | None) -> None:
        branch.ended = True
        self._begin(branch)
        self.record.variant_done(branch.position, status, error)
        self.mirror.end(branch.position, status, self.record.variant(branch.position))


@dataclass(frozen=True, slots=True)
class _BranchOutlet:
    """Shows and records what a job of one variant reports; where there are others, every line says whose it is."""

    runner: Runner
    branch: Branch
    stage: Stage

    def say(self, message: str) -> None:
        self.runner.display.say(self._named(message))

    def warn(self, message: str) -> None:
        self.runner.display.warn(self._named(message))

    def bar(self, label: str, total: int | None, done: int) -> AbstractContextManager[Bar]:
        return self.runner.display.bar(self._named(label), total, done)

    def event(self, name: str, facts: Mapping[str, Any]) -> None:
        self.runner.record.event(name, variant=self.branch.plan.label, **facts)

    def metric(self, metric: Metric) -> None:
        if not self.branch.ended:
            self.runner.mirror.live(self.branch.position, self.stage, metric)

    def _named(self, message: str) -> str:
        return message if len(self.runner.plan.variants) == 1 else f"{self.branch.plan.label}: {message}"


def project_home(store: Path | None) -> Path:
    """Return the project's folder for results: `--store DIR`, else `.subl` here."""
    return (store or Path(".subl")).absolute()
