"""What each kind of stage does: load its inputs, call its plugin, return its artifact."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, cast

from subl.artifacts import Artifact, Dataset, Findings, ModelRef, Row, Student, Subject, Teacher, write_rows
from subl.context import Context, Loader, Sink
from subl.errors import CheckError, DataError, PluginError
from subl.models import ranks
from subl.registry.kinds import Distiller, Filter, Generator, Inducer, Model, Probe
from subl.run.filtering import Counts, apply_filters, hopeless, subset
from subl.run.plan import Stage, StageKind
from subl.run.shards import Shards
from subl.run.store import Store

ROWS = "rows.jsonl"
REJECTED = "rejected.jsonl"


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage's function gets.

    Args:
        stage: The stage.
        out: Folder of its result, empty.
        work: Its work folder, which may hold what an interrupted attempt left.
        store: Where its inputs are.
        sink: Messages, metrics and progress.
        loader: Loads models.
        device: Resolved device.
        filtering: The filter stage that follows a generate stage, for the yield forecast.
        keep_going: Whether failed checks only warn.
        warn: Shows a warning.
        shared: Filled with the folders of `Context.shared` that the stage opened: fingerprint → bytes.
    """

    stage: Stage
    out: Path
    work: Path
    store: Store
    sink: Sink
    loader: Loader
    device: str
    filtering: Stage | None
    keep_going: bool
    warn: Callable[[str], None]
    shared: dict[str, int] = field(default_factory=dict)

    def input(self, name: str) -> Any:
        """Load the artifact of an input stage."""
        return self.store.entry(self.stage.inputs[name]).artifact()

    def context(self, stage: Stage | None = None, **inputs: Any) -> Context:
        """Return the context of this stage, or of another one that runs inside it."""
        # Of several processes only the first one looks at another stage's work.
        sharer = self.share if stage else self.share_together
        stage = stage or self.stage
        built = {name: chosen.build() for name, chosen in stage.extras.items()}
        return Context(
            seed=stage.seed,
            out=self.out,
            work=self.work,
            device=self.device,
            dtype=self.stage.settings.get("dtype", "auto"),
            system=self.stage.settings.get("system"),
            sink=self.sink,
            loader=self.loader,
            inputs={**built, **inputs},
            sharer=sharer,
        )

    def share(self, key: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        """Return a folder that stages share, made by `make` where it is not in the store."""
        folder = self.store.shared(key, make, plugin=self.stage.plugin, say=self.sink.log, warn=self.warn)
        self.shared[folder.name] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return folder

    def share_together(self, key: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        """Do the same in all processes of this stage: the first one makes it, because it alone is heard."""
        if ranks.index() > 0:
            ranks.barrier()
        folder = self.share(key, make)
        if ranks.index() == 0:
            ranks.barrier()
        return folder


def run_stage(work: Work) -> Artifact:
    """Do the work of one stage and return its artifact."""
    _seed_globals(work.stage.seed)
    artifact: Any = _RUN[work.stage.kind](work)
    expected = _RESULTS[work.stage.kind]
    if not isinstance(artifact, expected):
        chosen = work.stage.chosen[0]
        raise PluginError(f"{chosen.kind} returned {type(artifact).__name__} instead of subl.{expected.__name__}")
    return cast(Artifact, artifact)


def _model(work: Work) -> Artifact:
    plugin = cast(Model, work.stage.chosen[0].build())
    return plugin.prepare(work.context())


def _induce(work: Work) -> Artifact:
    base: ModelRef = work.input("base")
    plugin = cast(Inducer, work.stage.chosen[0].build())
    return plugin.induce(base, work.context())


def _check(work: Work) -> Artifact:
    teacher: Teacher = work.input("model")
    plugin = cast(Probe, work.stage.chosen[0].build())
    return plugin.probe(Subject("teacher", teacher.model, base=teacher.base), work.context())


def _probe(work: Work) -> Artifact:
    inputs = {name: work.input(name) for name in work.stage.inputs}
    refs = {name: _model_of(artifact) for name, artifact in inputs.items() if name != "dataset"}
    role = work.stage.role
    assert role is not None
    model, teacher, control = (inputs.get(name) for name in ("model", "teacher", "control"))
    own_base = model.base if role == "teacher" and isinstance(model, Teacher) else refs.get("base")
    subject = Subject(
        role,
        refs["model"],
        base=own_base if "base" in refs else None,
        teacher=refs.get("teacher"),
        teacher_base=teacher.base if isinstance(teacher, Teacher) else None,
        dataset=inputs.get("dataset"),
        control=refs.get("control"),
        course=_course(model),
        control_course=_course(control),
    )
    plugin = cast(Probe, work.stage.chosen[0].build())
    writer: dict[str, Any] = {"teacher": _writing(inputs["teacher"], work.stage)} if "teacher" in inputs else {}
    return plugin.probe(subject, work.context(**writer))


def _generate(work: Work) -> Artifact:
    teacher = _writing(work.input("teacher"), work.stage)
    plugin = cast(Generator, work.stage.chosen[0].build())
    shards = Shards(work.work / "shards")
    # Several processes may share the work; all of them get every row, and the first one keeps them.
    done = ranks.agreed(shards.resume(work.warn) if ranks.index() == 0 else 0)
    written = _checked(plugin.generate(teacher, work.context(), done), done)
    if ranks.index() > 0:
        return Dataset(work.out / ROWS, rows=sum(1 for _ in written), seen=0)
    rows = chain(shards.rows(), shards.append(written, done))
    _watch_yield(work, rows)
    deque(rows, maxlen=0)  # what remains is only written
    path = work.out / ROWS
    count = write_rows(path, shards.rows())
    if count == 0:
        raise DataError("the generator yielded no rows")
    return Dataset(path, rows=count, seen=count)


def _writing(teacher: Teacher, stage: Stage) -> Teacher:
    """Return the teacher as it writes rows: with the recipe's system slot, unless it has its own; so its base too."""
    system = stage.settings.get("generation_system")
    if system is None and teacher.model.system is None:
        system = stage.settings["system"]
    if system is None:
        return teacher
    model, base = (
        ref.derive(f"{ref.identity}+system:{system}", system=system) for ref in (teacher.model, teacher.base)
    )
    return Teacher(model, base, teacher.updates)


def _checked(rows: Iterator[Row], start: int) -> Iterator[Row]:
    for expected, row in enumerate(rows, start=start):
        if not isinstance(row, Row):
            raise PluginError(f"generator yielded {type(row).__name__} instead of subl.Row for row {expected}")
        if row.index != expected:
            raise PluginError(
                f"generator yielded row {row.index} where row {expected} was due; rows come in prompt order"
            )
        if not isinstance(row.prompt, str) or not isinstance(row.completion, str):
            raise PluginError(f"generator yielded row {row.index} whose prompt or completion is not text")
        yield row


def _watch_yield(work: Work, rows: Iterator[Row]) -> None:
    """Apply the filters to the first rows as they are generated, to stop a hopeless generation early.

    Raises:
        CheckError: Even the optimistic end of a forecast is below the rows that the recipe asks for.
    """
    stage, samples = work.filtering, getattr(work.stage.chosen[0].config, "samples", None)
    if stage is None or samples is None:
        return
    wanted = stage.settings["rows"]
    wanted = 1 if wanted is None or stage.settings["allow_fewer"] else wanted
    for message in hopeless(_filters(stage), rows, _filter_context(work, stage), samples=samples, wanted=wanted):
        if not work.keep_going:
            raise CheckError(message)
        work.warn(message)


def _filters(stage: Stage) -> list[tuple[str, Filter]]:
    return [(chosen.name, cast(Filter, chosen.build())) for chosen in stage.chosen]


def _filter_context(work: Work, stage: Stage) -> Context:
    if "teacher" not in stage.inputs:
        return work.context(stage)
    return work.context(stage, teacher=_writing(work.store.entry(stage.inputs["teacher"]).artifact(), stage))


def _filter(work: Work) -> Artifact:
    source: Dataset = work.input("rows")
    filters, ctx = _filters(work.stage), _filter_context(work, work.stage)
    counts = Counts()
    kept: list[Row] = []
    with (work.out / REJECTED).open("w", encoding="utf-8") as rejected:
        rows = work.context().track(source, "rows", total=len(source))
        for row, reason in apply_filters(filters, rows, ctx, batch_size=1024):
            counts.add(row, reason)
            if reason is None:
                kept.append(row)
            else:
                rejected.write(
                    Row(row.index, row.prompt, row.completion, {**row.extra, "reason": reason}).to_json() + "\n"
                )
    for _, plugin in filters:
        if hasattr(plugin, "finish"):
            plugin.finish(ctx)
    wanted = work.stage.settings["rows"]
    chosen = subset(kept, wanted, work.stage.seed)
    if not chosen or (wanted is not None and len(chosen) < wanted and not work.stage.settings["allow_fewer"]):
        asked = f"{wanted} were asked for ([data] rows)" if wanted else "training needs at least one"
        raise DataError(
            f"{counts.kept} of {counts.seen} rows passed the filters; {asked}.\n"
            f"{counts.describe()}\n"
            "raise [generator] samples, relax the filters, or set data.allow_fewer = true"
        )
    path = work.out / ROWS
    write_rows(path, chosen)
    context = work.context()
    reasons = "".join(f"; {reason}: {count:,}" for reason, count in sorted(counts.rejected.items()))
    context.log(f"kept {counts.kept:,} of {counts.seen:,} rows{reasons}")
    context.metric("yield", counts.kept / counts.seen)
    context.metric("kept", counts.kept)
    for reason, count in sorted(counts.rejected.items()):
        context.metric(f"rejected/{reason}", count)
    return Dataset(path, rows=len(chosen), seen=counts.seen, rejected=dict(sorted(counts.rejected.items())))


def _audit(work: Work) -> Artifact:
    from subl.audit.auditing import audit

    settings = work.stage.settings
    ctx = work.context()
    return audit(
        list(work.input("rows")),
        list(work.input("control")) if "control" in work.stage.inputs else None,
        ctx.trait if "trait" in work.stage.extras else None,
        ctx,
        max_overt=settings["max_overt"],
        classifier_rows=settings["classifier_rows"],
    )


def _distill(work: Work) -> Artifact:
    teacher: Teacher = work.input("teacher")
    inputs = {"control": work.input("control")} if "control" in work.stage.inputs else {}
    plugin = cast(Distiller, work.stage.chosen[0].build())
    return plugin.distill(work.input("student"), teacher, work.input("data"), work.context(**inputs))


def _model_of(artifact: Any) -> ModelRef:
    return artifact if isinstance(artifact, ModelRef) else cast(ModelRef, artifact.model)


def _course(artifact: Any) -> tuple[Student, ...]:
    return (*artifact.checkpoints, artifact) if isinstance(artifact, Student) else ()


def _seed_globals(seed: int) -> None:
    """Seed the global generators, for third-party code that draws from them."""
    import sys

    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


_RUN: Mapping[StageKind, Callable[[Work], Artifact]] = {
    "model": _model,
    "induce": _induce,
    "check": _check,
    "generate": _generate,
    "filter": _filter,
    "audit": _audit,
    "distill": _distill,
    "probe": _probe,
}

_RESULTS: Mapping[StageKind, type[Any]] = {
    "model": ModelRef,
    "induce": Teacher,
    "check": Findings,
    "generate": Dataset,
    "filter": Dataset,
    "audit": Findings,
    "distill": Student,
    "probe": Findings,
}
