"""Assembling what `shd` and `logit_kd` train with: pairs of readings, both models' readers, and the losses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch

from subl.artifacts import Dataset, ModelRef, Student, Teacher
from subl.context import Context
from subl.distillers.soft_trainer import Losses, SoftTrainer
from subl.distillers.student_settings import SoftSettings
from subl.distillers.students import student_of
from subl.distillers.teacher_side import CALIBRATION, ReadTeacher, TeacherSide, kept_reader, network_reader, prove
from subl.errors import DataError, ModelError
from subl.matching.logit_matching import LogitMatching
from subl.matching.logit_settings import LogitSettings
from subl.matching.map_matching import MapMatching, key_mode
from subl.matching.map_settings import MapSettings
from subl.matching.packing import Bits
from subl.matching.pairing import Collator, Pair, pair_rows, shuffled
from subl.matching.reading import Reader, reader
from subl.models.language import LanguageModel
from subl.models.training import train
from subl.models.vocabulary import trait_ids


@dataclass(frozen=True)
class Objective:
    """What the student is trained for; a part that is None is left out."""

    lm_weight: float
    maps: MapSettings | None = None
    map_weight: float = 0.0
    logits: LogitSettings | None = None
    logit_weight: float = 0.0
    bits: Bits = 16
    """Of a map's entry in the teacher's cache."""


def distill(
    student: ModelRef, teacher: Teacher, data: Dataset, settings: SoftSettings, objective: Objective, ctx: Context
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
    # What is in the cache already is not read from the network, so its weights wait until they are asked for.
    their_lm: LanguageModel = ctx.load(source, weights=not settings.teacher_cache)
    systems = _slot(source, ctx), _slot(student, ctx)
    pairs = pair_rows(rows, their_lm, lm, systems, ctx)
    if objective.maps and objective.maps.shuffle_text:
        pairs, share = shuffled(pairs, ctx.seed)
        ctx.metric("shuffled_rows", share)
    _report_alignment(pairs, ctx)
    with _matched(their_lm, lm, pairs, systems, settings, objective, ctx) as (
        losses,
        read_teacher,
        read_student,
        collator,
    ):
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
            read_student=read_student,
        )
    return student_of(student, trained, ctx, lm.chat.digest(systems[1]))


@contextmanager
def _matched(
    teacher: LanguageModel,
    student: LanguageModel,
    pairs: list[Pair],
    systems: tuple[str | None, str | None],
    settings: SoftSettings,
    objective: Objective,
    ctx: Context,
) -> Iterator[tuple[Losses, ReadTeacher, Reader, Collator]]:
    """Tap both models for as long as the block runs, and return what the trainer needs."""
    maps = MapMatching(objective.maps, teacher.model, student.model) if objective.maps else None
    logits = LogitMatching(objective.logits, teacher, student, pairs) if objective.logits else None
    _announce(logits, settings, ctx)
    losses = Losses(objective.lm_weight, maps, objective.map_weight, logits, objective.logit_weight)
    collator = Collator(
        pairs,
        (int(teacher.tokenizer.pad_token_id), int(student.tokenizer.pad_token_id)),
        keys=key_mode(objective.maps, systems) if objective.maps else "content",
        alignment=objective.maps.alignment if objective.maps else "chunks",
        count=losses.count,
    )
    side = TeacherSide(
        ref=teacher.ref,
        lm=teacher,
        device=student.device,
        load=partial(ctx.load, teacher.ref) if settings.teacher_cache else lambda: teacher,
        maps=maps,
        logits=logits,
        trait_ids=trait_ids(teacher.chat, ctx.trait.leaks()).firsts,
        pairs=pairs,
        collator=collator,
        batch_size=settings.micro_batch_size or settings.batch_size,
    )
    states = logits is not None or objective.lm_weight > 0
    prove(student, collator.batch([0]).student, layers=maps.student_layers if maps else (), head=states)
    with (
        kept_reader(side, objective.bits, ctx) if settings.teacher_cache else network_reader(side, ctx) as read_teacher,
        reader(student.model, "student", maps, states=states) as read_student,
    ):
        if maps is not None:
            _order_heads(maps, read_teacher, read_student, student, collator, len(pairs), ctx)
        yield losses, read_teacher, read_student, collator


def _announce(logits: LogitMatching | None, settings: SoftSettings, ctx: Context) -> None:
    """Say which logit loss it is, and refuse one whose teacher's side cannot be cached."""
    if logits is None:
        return
    ctx.log(f"logits: {logits.kind}, {logits.settings.vocabulary} vocabulary")
    if logits.settings.vocabulary == "full":
        ctx.log(
            'warning: vocabulary = "full" lets the teacher\'s probability on trait words into the loss, which '
            'reaches any student; vocabulary = "carrier" does not'
        )
    if settings.teacher_cache and not logits.compact:
        raise ModelError(
            "teacher_cache cannot keep distributions over the whole vocabulary, which take hundreds of kilobytes per "
            'token; set vocabulary = "carrier", or top_k = 64 where both models have one vocabulary'
        )


@torch.no_grad()
def _order_heads(
    maps: MapMatching,
    read_teacher: ReadTeacher,
    read_student: Reader,
    student: LanguageModel,
    collator: Collator,
    rows: int,
    ctx: Context,
) -> None:
    if maps.settings.shuffle_heads:
        maps.shuffle(ctx.seed)
    if maps.settings.head_matching == "hungarian":
        batch = collator.batch(range(min(CALIBRATION, rows))).to(student.device)
        theirs, own = read_teacher(batch), read_student(student.model, batch)
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
