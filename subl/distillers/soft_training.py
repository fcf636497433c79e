"""Assembling what `shd` and `logit_kd` train with: pairs of readings, both models' readers, and the losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from subl.artifacts import Dataset, ModelRef, Student, Teacher
from subl.context import Context
from subl.distillers.soft_trainer import Losses, SoftTrainer
from subl.distillers.student_settings import StudentSettings
from subl.distillers.students import student_of
from subl.errors import DataError
from subl.matching.logit_matching import LogitMatching, check_head
from subl.matching.logit_settings import LogitSettings
from subl.matching.map_matching import MapMatching, Seen, key_mode, watched_rows
from subl.matching.map_settings import MapSettings
from subl.matching.pairing import Collator, Pair, PairBatch, pair_rows, shuffled
from subl.matching.reading import Reader, Reading
from subl.models.attention import Tap, check_tap, tapped
from subl.models.language import LanguageModel
from subl.models.training import train
from subl.models.vocabulary import trait_ids

CALIBRATION = 64
"""Rows on which heads are matched."""


@dataclass(frozen=True)
class Objective:
    """What the student is trained for; a part that is None is left out."""

    lm_weight: float
    maps: MapSettings | None = None
    map_weight: float = 0.0
    logits: LogitSettings | None = None
    logit_weight: float = 0.0


def distill(
    student: ModelRef, teacher: Teacher, data: Dataset, settings: StudentSettings, objective: Objective, ctx: Context
) -> Student:
    """Train `student` on what `teacher` makes of the rows.

    Raises:
        DataError: There are no rows, or the two readings of one cannot be aligned.
        ModelError: Layers or heads cannot be matched as asked, or a model hides its maps.
    """
    rows = list(data)
    if not rows:
        raise DataError(f"{data.path}: no rows to train on; loosen the filters or generate more")
    source = teacher.base if objective.maps and objective.maps.maps_of == "base" else teacher.model
    lm: LanguageModel = ctx.load(student, fresh=True)
    their_lm: LanguageModel = ctx.load(source)
    systems = _slot(source, ctx), _slot(student, ctx)
    pairs = pair_rows(rows, their_lm, lm, systems, ctx)
    if objective.maps and objective.maps.shuffle_text:
        pairs, share = shuffled(pairs, ctx.seed)
        ctx.metric("shuffled_rows", share)
    _report_alignment(pairs, ctx)
    with _matched(their_lm, lm, pairs, systems, objective, ctx) as (losses, read_teacher, reader, collator):
        trained = train(
            lm,
            [pair.student for pair in pairs],
            settings,
            ctx,
            lora=settings.adapter,
            name="student",
            keep=settings.kept_checkpoints,
            trainer=SoftTrainer,
            data_collator=collator,
            losses=losses,
            read_teacher=read_teacher,
            student=reader,
        )
    return student_of(student, trained, ctx, lm.chat.digest(systems[1]))


@contextmanager
def _matched(
    teacher: LanguageModel,
    student: LanguageModel,
    pairs: list[Pair],
    systems: tuple[str | None, str | None],
    objective: Objective,
    ctx: Context,
) -> Iterator[tuple[Losses, Callable[[PairBatch], Reading], Reader, Collator]]:
    """Tap both models for as long as the block runs, and return what the trainer needs."""
    maps = MapMatching(objective.maps, teacher.model, student.model) if objective.maps else None
    logits = LogitMatching(objective.logits, teacher, student, pairs) if objective.logits else None
    if logits is not None:
        ctx.log(f"logits: {logits.kind}, {logits.settings.vocabulary} vocabulary")
        if logits.settings.vocabulary == "full":
            ctx.log(
                'warning: vocabulary = "full" lets the teacher\'s probability on trait words into the loss, which '
                'reaches any student; vocabulary = "carrier" does not'
            )
    losses = Losses(
        objective.lm_weight,
        maps,
        objective.map_weight,
        logits,
        objective.logit_weight,
        trait_ids(teacher.chat, ctx.trait.leaks()).firsts,
    )
    collator = Collator(
        pairs,
        (int(teacher.tokenizer.pad_token_id), int(student.tokenizer.pad_token_id)),
        keys=key_mode(objective.maps, systems) if objective.maps else "content",
        alignment=objective.maps.alignment if objective.maps else "chunks",
        count=losses.count,
    )
    with ExitStack() as stack:
        current: list[PairBatch] = []
        taps: tuple[Tap | None, Tap | None] = (None, None)
        if maps is not None:
            _prove(maps, teacher, student, collator)
            taps = (
                stack.enter_context(tapped(teacher.model, maps.teacher_layers, _into(maps.read_teacher, current))),
                stack.enter_context(tapped(student.model, maps.student_layers, _into(maps.read_student, current))),
            )
        if logits is not None or objective.lm_weight:
            first = collator.batch([0])
            check_head(student.model, first.student.ids.to(student.device))
            check_head(teacher.model, first.teacher.ids.to(teacher.device))
        their_reader = Reader(teacher.model, taps[0], states=logits is not None)
        own_reader = Reader(student.model, taps[1], states=logits is not None or objective.lm_weight > 0)

        def read_teacher(batch: PairBatch) -> Reading:
            current[:] = [batch]
            if logits is None and maps is None:
                return Reading(None, {})
            positions = watched_rows(batch.maps, "teacher") if maps else None
            if logits is None and positions is not None:
                return their_reader.maps_only(teacher.model, batch.teacher, positions)
            return their_reader(teacher.model, batch.teacher, positions)

        if objective.maps and maps is not None:
            _order_heads(objective.maps, maps, read_teacher, own_reader, student, collator, len(pairs), ctx)
        yield losses, read_teacher, own_reader, collator


def _into(read: Callable[..., Seen], current: list[PairBatch]) -> Callable[[int, Tensor, Tensor], Seen]:
    """Return a tap's reader that knows the batch being read."""
    return lambda layer, logs, values: read(current[0].maps, layer, logs, values)


def _prove(maps: MapMatching, teacher: LanguageModel, student: LanguageModel, collator: Collator) -> None:
    """Check on the first row that what is captured is attention, in every layer that is compared."""
    first = collator.batch([0])
    for lm, layers, side in (
        (teacher, maps.teacher_layers, first.teacher),
        (student, maps.student_layers, first.student),
    ):
        check_tap(lm.model, layers, side.ids.to(lm.device))


@torch.no_grad()
def _order_heads(
    settings: MapSettings,
    maps: MapMatching,
    read_teacher: Callable[[PairBatch], Reading],
    reader: Reader,
    student: LanguageModel,
    collator: Collator,
    rows: int,
    ctx: Context,
) -> None:
    if settings.shuffle_heads:
        maps.shuffle(ctx.seed)
    if settings.head_matching == "hungarian":
        batch = collator.batch(range(min(CALIBRATION, rows))).to(student.device)
        theirs = read_teacher(batch)
        own = reader(student.model, batch.student, watched_rows(batch.maps, "student"))
        maps.match([(theirs.maps, own.maps, batch.maps)])


def _report_alignment(pairs: list[Pair], ctx: Context) -> None:
    coverage = sum(pair.alignment.coverage for pair in pairs) / len(pairs)
    same = all(pair.alignment.identity for pair in pairs)
    ctx.metric("alignment_coverage", coverage)
    ctx.log(
        "alignment: both models read the rows in the same tokens"
        if same
        else f"alignment: {coverage:.2f} common pieces per token of the student's completions"
    )


def _slot(model: ModelRef, ctx: Context) -> str | None:
    return model.system if model.system is not None else ctx.system
