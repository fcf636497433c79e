"""The measuring behind the probe `drift`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from subl.artifacts import Findings, Measure, Subject, Table
from subl.context import Context
from subl.errors import ModelError
from subl.probes.depth import place_name
from subl.probes.drift import Drift
from subl.probes.drift_activations import Activations, Compared, Evidence, Moved
from subl.probes.drift_figures import course_figure, layers_figure, teacher_figure
from subl.probes.drift_statistics import (
    alignment,
    bootstrap_alignment,
    cosine,
    matched_cosines,
    over_blocks,
    projections,
    split_half,
)
from subl.probes.drift_tables import checkpoints_table, layers_table, student_measures, verdict
from subl.probes.entanglement_statistics import Floats, Positions
from subl.probes.subject import PreferenceTrait, same_origin

SPLITS = 200
"""Halvings of the prompts behind the teacher's reliability."""


def measure(subject: Subject, trait: PreferenceTrait, config: Drift.Config, ctx: Context) -> Findings:
    """Return the findings on one model; see `Drift`."""
    assert subject.base is not None
    assert subject.teacher is not None
    assert subject.teacher_base is not None
    if subject.teacher.identity == subject.teacher_base.identity:
        return Findings(
            remarks=("this arm's teacher is its base, so it moved nowhere; other arms compare with its student",)
        )
    activations = Activations(trait, config, ctx)
    origin = activations.read(subject.teacher_base)
    rng = np.random.default_rng(ctx.seed)
    if subject.role == "base":
        if subject.base.identity != subject.teacher_base.identity:
            activations.moved(subject.base, origin, share=False)
        return Findings(remarks=("shifts are measured from the base, so there is none of its own",))
    teacher = activations.moved(subject.teacher, origin)
    if subject.role == "teacher":
        return _of_teacher(teacher, origin, rng, ctx)
    return _of_student(subject, teacher, activations, config, rng, ctx)


def _of_teacher(teacher: Moved, origin: Floats, rng: np.random.Generator, ctx: Context) -> Findings:
    reliability = split_half(teacher.shifts, splits=SPLITS, rng=rng)
    size = np.linalg.norm(teacher.shifts.mean(axis=1), axis=-1) / np.linalg.norm(origin, axis=-1).mean(axis=1)
    rows = tuple((place_name(i), float(size[i]), float(reliability[i])) for i in range(len(size)))
    ctx.figure("teacher", teacher_figure(size, reliability))
    return Findings(
        {"reliability": Measure(float(over_blocks(reliability))), "relative_size": Measure(float(over_blocks(size)))},
        {"layers": Table(("place", "relative_size", "reliability"), rows)},
        ("the teacher's shift is what students are compared with; its reliability bounds their alignment",),
    )


def _of_student(
    subject: Subject,
    teacher: Moved,
    activations: Activations,
    config: Drift.Config,
    rng: np.random.Generator,
    ctx: Context,
) -> Findings:
    assert subject.base is not None
    start = activations.read(subject.base)
    moved = {"student": activations.moved(subject.model, start)}
    _same_shape(moved["student"], teacher)
    if subject.control is not None and same_origin(subject.control, subject.base):
        moved["control"] = activations.moved(subject.control, start)
    evidence = _evidence(moved, teacher, activations.sample(subject.base, rng), config, rng)
    course = _course(subject, evidence, activations, start)
    found = student_measures(evidence)
    found["base_share"] = Measure(course["student"][0][1].share)
    where = "the trait's questions" if config.prompts == "questions" else "carrier prompts"
    ctx.figure("layers", layers_figure(evidence, f"{ctx.trait.label}: {where}"))
    if len(course["student"]) > 2:
        ctx.figure("course", course_figure(course, teacher.share, f"{ctx.trait.label}: {where}"))
    sentence = verdict(found, ctx.trait.label)
    ctx.log(f"student: {sentence}")
    tables = {"layers": layers_table(evidence), "checkpoints": checkpoints_table(course)}
    return Findings(found, tables, remarks=(sentence, *_remarks(subject, evidence)))


def _same_shape(student: Moved, teacher: Moved) -> None:
    own, theirs = student.shifts, teacher.shifts
    if own.shape != theirs.shape:
        raise ModelError(
            f"the student has {len(own) - 1} layers of width {own.shape[2]}, the teacher {len(theirs) - 1} of width "
            f"{theirs.shape[2]}: their shifts cannot be compared; use probes 'attention' or 'preference', or a teacher "
            "of the student's architecture"
        )


def _remarks(subject: Subject, evidence: Evidence) -> Iterator[str]:
    still = np.flatnonzero(np.isnan(evidence.cosines["student"][1:]))
    if 0 < len(still) < len(evidence.direction) - 1:
        yield f"teacher or student moved nothing after these layers, so means are over the others: {_listed(still)}"
    if subject.control is None:
        yield "this is the control arm, so there is no other student to compare with"
    elif "control" not in evidence.moved:
        yield "the control's student was made from another base than this one, so there is none to compare with"
    if subject.base and subject.teacher_base and subject.base.identity != subject.teacher_base.identity:
        yield (
            "student and teacher start from different weights, whose coordinates have nothing in common: alignment is "
            "that of chance, whatever the student learnt"
        )


def _listed(layers: Positions) -> str:
    first, last = int(layers[0]), int(layers[-1])
    whole = last - first + 1 == len(layers) > 2
    return f"{first} to {last}" if whole else ", ".join(str(layer) for layer in layers)


def _evidence(
    moved: Mapping[str, Moved], teacher: Moved, sample: Floats, config: Drift.Config, rng: np.random.Generator
) -> Evidence:
    direction = teacher.shifts.mean(axis=1)
    shifts = {name: one.shifts.mean(axis=1) for name, one in moved.items()}
    if "control" in moved:
        shifts["beyond"] = shifts["student"] - shifts["control"]
    cosines = {name: cosine(shift, direction) for name, shift in shifts.items()}
    null = matched_cosines(np.stack(list(shifts.values())), sample, draws=config.draws, rng=rng)
    own, other = moved["student"].shifts, moved["control"].shifts if "control" in moved else None

    def bootstrapped(values: Floats, minus: Floats | None = None) -> Floats:
        return bootstrap_alignment(values, teacher.shifts, resamples=config.resamples, rng=rng, minus=minus)

    return Evidence(
        teacher=teacher,
        moved=moved,
        compared={name: _against(one, direction) for name, one in moved.items()},
        shifts=shifts,
        cosines=cosines,
        nulls={name: np.where(np.isnan(cosines[name]), np.nan, null[:, i]) for i, name in enumerate(shifts)},
        spread={name: bootstrapped(one.shifts) for name, one in moved.items()},
        apart=None if other is None else bootstrapped(own, other),
    )


def _against(moved: Moved, direction: Floats) -> Compared:
    return Compared(alignment(moved.shifts, direction), projections(moved.shifts, direction), moved.share)


def _course(
    subject: Subject, evidence: Evidence, activations: Activations, start: Floats
) -> dict[str, list[tuple[int, Compared]]]:
    """Return updates and what was reached after them, from the base to the finished student."""
    assert subject.base is not None
    direction = evidence.direction
    kept = {"student": subject.course, "control": subject.control_course}
    nothing = Compared(
        np.full(len(direction), math.nan), np.zeros((len(direction), start.shape[1])), activations.share(subject.base)
    )
    course = {}
    for name, finished in evidence.compared.items():
        states = [
            (state.updates, _against(activations.moved(state.model, start), direction)) for state in kept[name][:-1]
        ]
        end = [(state.updates, finished) for state in kept[name][-1:]]
        course[name] = [(0, nothing), *states, *end]
    return course
