"""The measuring behind the probe `drift`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subl.artifacts import Findings, Measure, ModelRef, Subject, Table
from subl.context import Context
from subl.errors import ModelError, PluginError
from subl.models.language import LanguageModel
from subl.models.residual import every, last, mean, residuals
from subl.probes.candidates import score_candidates
from subl.probes.drift import Drift
from subl.probes.drift_figures import course_figure, layers_figure, teacher_figure
from subl.probes.drift_statistics import (
    alignment,
    beyond_chance,
    bootstrap_alignment,
    cosine,
    matched_cosines,
    projections,
    split_half,
)
from subl.probes.entanglement_statistics import Floats
from subl.probes.intervals import LEVEL, mean_over
from subl.probes.subject import PreferenceTrait, open_model

SPLITS = 200
"""Halvings of the prompts behind the teacher's reliability."""


@dataclass(frozen=True, slots=True)
class Moved:
    """How one model's activations differ from its base's.

    Args:
        shifts: [layers + 1, prompts, d]; the first layer is the embeddings' output.
        share: The target's share among the candidates in the model's answers.
    """

    shifts: Floats
    share: float


@dataclass(frozen=True, slots=True)
class Compared:
    """A student, or a state of it, against the teacher.

    Args:
        cosines: [layers + 1].
        along: Projections, [layers + 1, prompts].
        share: The target's share among the candidates.
    """

    cosines: Floats
    along: Floats
    share: float

    @property
    def alignment(self) -> float:
        """Mean over the blocks; the embeddings' output is no block."""
        return float(self.cosines[1:].mean())

    @property
    def projection(self) -> float:
        """Mean over the blocks and prompts."""
        return float(self.along[1:].mean())


class Activations:
    """Reads the activations of models on the same prompts, each in its own chat rendering."""

    def __init__(self, trait: PreferenceTrait, config: Drift.Config, ctx: Context) -> None:
        self._trait = trait
        self._config = config
        self._ctx = ctx
        prompts = trait.questions() if config.prompts == "questions" else ctx.generator.prompts(config.count, 0)
        self._prompts = tuple(prompts)[: config.count]
        if len(self._prompts) < 2:
            raise PluginError(
                'drift compares shifts over prompts and needs at least 2 of them; use prompts = "carrier", or raise '
                "[trait] questions"
            )

    def read(self, model: ModelRef) -> Floats:
        """Return what is read of every prompt: [layers + 1, prompts, d]."""
        lm, tokens = self._opened(model)
        where = {"last": last, "mean": mean}[self._config.tokens]
        values: Floats = residuals(lm, tokens, batch_size=self._config.batch_size, read=where).double().numpy()
        return values

    def sample(self, model: ModelRef, rng: np.random.Generator) -> Floats:
        """Return the activations of random tokens of the prompts: [layers + 1, tokens, d]."""
        lm, tokens = self._opened(model)
        total, parts = sum(map(len, tokens)), []
        wanted = np.sort(rng.choice(total, min(total, self._config.sample), replace=False))
        start = 0
        for prompt in tokens:
            here = wanted[(wanted >= start) & (wanted < start + len(prompt))] - start
            start += len(prompt)
            if len(here):
                parts.append(residuals(lm, [prompt], batch_size=1, read=every).numpy()[:, here])
        values: Floats = np.concatenate(parts, axis=1)
        return values

    def moved(self, model: ModelRef, base: Floats, *, share: bool = True) -> Moved:
        """Return a model's shift from what its base's activations are."""
        after = self.read(model)
        if after.shape != base.shape:
            raise ModelError(
                f"one model has {len(base) - 1} layers of width {base.shape[2]}, the other {len(after) - 1} of width "
                f"{after.shape[2]}: their activations cannot be compared; use probes 'attention' or 'preference'"
            )
        return Moved(after - base, self.share(model) if share else math.nan)

    def share(self, model: ModelRef) -> float:
        """Return the target's share among the candidates."""
        lm, system = open_model(model, self._ctx)
        scores = score_candidates(lm, self._trait, system=system, batch_size=self._config.batch_size)
        return float(scores.shares()[scores.target])

    def _opened(self, model: ModelRef) -> tuple[LanguageModel, list[list[int]]]:
        lm, system = open_model(model, self._ctx)
        return lm, [lm.chat.prompt(prompt, system=system) for prompt in self._prompts]


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
    rows = tuple((i, float(size[i]), float(reliability[i])) for i in range(len(size)))
    ctx.figure("teacher", teacher_figure(size, reliability))
    return Findings(
        {"reliability": Measure(float(reliability[1:].mean())), "relative_size": Measure(float(size[1:].mean()))},
        {"layers": Table(("layer", "relative_size", "reliability"), rows)},
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
    direction = teacher.shifts.mean(axis=1)
    own = activations.moved(subject.model, start)
    if own.shifts.shape != teacher.shifts.shape:
        raise ModelError(
            f"the student has {len(own.shifts) - 1} layers of width {own.shifts.shape[2]}, the teacher "
            f"{len(teacher.shifts) - 1} of width {teacher.shifts.shape[2]}: their shifts cannot be compared; use "
            "probes 'attention' or 'preference', or a teacher of the student's architecture"
        )
    moved = {"student": own}
    if subject.control is not None:
        moved["control"] = activations.moved(subject.control, start)
    compared = {name: _against(one, direction) for name, one in moved.items()}
    means = {name: one.shifts.mean(axis=1) for name, one in moved.items()}
    if "control" in moved:
        means["beyond"] = means["student"] - means["control"]
    cosines = {name: cosine(shift, direction) for name, shift in means.items()}
    null = matched_cosines(
        np.stack(list(means.values())), activations.sample(subject.base, rng), draws=config.draws, rng=rng
    )
    nulls = {name: null[:, i] for i, name in enumerate(means)}
    spread = {
        name: bootstrap_alignment(one.shifts, teacher.shifts, resamples=config.resamples, rng=rng)
        for name, one in moved.items()
    }
    course = _course(subject, compared, activations, start, direction, activations.share(subject.base))
    found = _measures(moved, compared, cosines, nulls, spread, teacher, config, rng)
    found["base_share"] = Measure(course["student"][0][1].share)
    title = f"{ctx.trait.label}: {'the trait’s questions' if config.prompts == 'questions' else 'carrier prompts'}"
    ctx.figure("layers", layers_figure(cosines, {n: c.along for n, c in compared.items()}, spread, nulls, title))
    if len(course["student"]) > 2:
        ctx.figure("course", course_figure(course, teacher.share, title))
    sentence = _sentence(found, ctx.trait.label)
    ctx.log(f"student: {sentence}")
    remarks = [sentence]
    if subject.control is None:
        remarks.append("this is the control arm, so there is no other student to compare with")
    if subject.teacher_base is not None and subject.base.identity != subject.teacher_base.identity:
        remarks.append(
            "student and teacher start from different weights, whose coordinates have nothing in common: alignment is "
            "that of chance, whatever the student learnt"
        )
    tables = {
        "layers": _layers(compared, cosines, nulls, spread, means, direction),
        "checkpoints": _checkpoints(course),
    }
    return Findings(found, tables, remarks=tuple(remarks))


def _against(moved: Moved, direction: Floats) -> Compared:
    return Compared(alignment(moved.shifts, direction), projections(moved.shifts, direction), moved.share)


def _course(
    subject: Subject,
    final: Mapping[str, Compared],
    activations: Activations,
    start: Floats,
    direction: Floats,
    base_share: float,
) -> dict[str, list[tuple[int, Compared]]]:
    """Return updates and what was reached after them, from the base to the finished student."""
    kept = {"student": subject.course, "control": subject.control_course}
    nothing = Compared(np.full(len(direction), math.nan), np.zeros((len(direction), start.shape[1])), base_share)
    course = {}
    for name, finished in final.items():
        states = [
            (state.updates, _against(activations.moved(state.model, start), direction)) for state in kept[name][:-1]
        ]
        end = [(state.updates, finished) for state in kept[name][-1:]]
        course[name] = [(0, nothing), *states, *end]
    return course


def _measures(
    moved: Mapping[str, Moved],
    compared: Mapping[str, Compared],
    cosines: Mapping[str, Floats],
    nulls: Mapping[str, Floats],
    spread: Mapping[str, Floats],
    teacher: Moved,
    config: Drift.Config,
    rng: np.random.Generator,
) -> dict[str, Measure]:
    prompts = teacher.shifts.shape[1]
    size = {name: np.linalg.norm(one.shifts.mean(axis=1)[1:], axis=-1) for name, one in moved.items()}
    full = np.linalg.norm(teacher.shifts.mean(axis=1)[1:], axis=-1)
    found: dict[str, Measure] = {}
    for name, one in compared.items():
        before = "" if name == "student" else f"{name}_"
        found[f"{before}alignment"] = _bootstrapped(one.alignment, spread[name][:, 1:].mean(axis=1), prompts)
        found[f"{before}alignment_p"] = Measure(beyond_chance(one.alignment, nulls[name][:, 1:].mean(axis=1)))
        found[f"{before}projection"] = mean_over(one.along[1:].mean(axis=0), "prompts")
        found[f"{before}relative_shift"] = Measure(float((size[name] / full).mean()))
        found[f"{before}share"] = Measure(one.share)
    if "control" in moved:
        own, other = compared["student"], compared["control"]
        apart = bootstrap_alignment(
            moved["student"].shifts,
            teacher.shifts,
            resamples=config.resamples,
            rng=rng,
            minus=moved["control"].shifts,
        )
        difference = own.alignment - other.alignment
        found["alignment_minus_control"] = _bootstrapped(difference, apart[:, 1:].mean(axis=1), prompts)
        found["projection_minus_control"] = mean_over((own.along - other.along)[1:].mean(axis=0), "prompts")
        beyond = float(cosines["beyond"][1:].mean())
        found["beyond_control"] = Measure(beyond)
        found["beyond_control_p"] = Measure(beyond_chance(beyond, nulls["beyond"][:, 1:].mean(axis=1)))
    reached = (cosines["beyond"] if "beyond" in cosines else cosines["student"])[1:]
    found["peak_layer"] = Measure(math.nan if np.isnan(reached).all() else 1.0 + float(np.nanargmax(reached)))
    return found


def _bootstrapped(value: float, samples: Floats, prompts: int) -> Measure:
    if math.isnan(value) or np.isnan(samples).any():
        return Measure(value, n=prompts)
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Measure(value, float(low), float(high), prompts, f"95 % bootstrap over {prompts} prompts")


def _layers(
    compared: Mapping[str, Compared],
    cosines: Mapping[str, Floats],
    nulls: Mapping[str, Floats],
    spread: Mapping[str, Floats],
    shifts: Mapping[str, Floats],
    direction: Floats,
) -> Table:
    """One row for every layer and model: the student, the control's, and what the student has beyond it."""
    rows = []
    for name, values in cosines.items():
        for layer, value in enumerate(values):
            low, high = np.quantile(spread[name][:, layer], [0.025, 0.975]) if name in spread else (None, None)
            rows.append(
                (
                    *(name, layer, float(value), *(None if v is None else float(v) for v in (low, high))),
                    beyond_chance(float(value), nulls[name][:, layer]),
                    float(compared[name].along[layer].mean()) if name in compared else None,
                    *(float(np.linalg.norm(v[layer])) for v in (shifts[name], direction)),
                )
            )
    columns = ("model", "layer", "alignment", "low", "high", "p", "projection", "shift", "teacher_shift")
    return Table(columns, tuple(rows))


def _checkpoints(course: Mapping[str, Sequence[tuple[int, Compared]]]) -> Table:
    rows = [
        (name, updates, layer, float(state.cosines[layer]), float(state.along[layer].mean()), state.share)
        for name, states in course.items()
        for updates, state in states[1:]
        for layer in range(len(state.cosines))
    ]
    return Table(("model", "updates", "layer", "alignment", "projection", "share"), tuple(rows))


def _sentence(found: Mapping[str, Measure], target: str) -> str:
    own = found["alignment"]
    if math.isnan(own.value):
        return "the student's activations are those of its base: training moved nothing here"
    text = (
        f"the student moved {found['projection'].value:.0%} of the teacher's shift along it (alignment {own.value:.2f}"
        f"{_interval(own)}, p {found['alignment_p'].value:.2g} among random directions)"
    )
    if "alignment_minus_control" in found:
        gap = found["alignment_minus_control"]
        text += (
            f"; the control's student {found['control_projection'].value:.0%} (alignment "
            f"{found['control_alignment'].value:.2f}), difference of alignments {gap.value:+.2f}{_interval(gap)}"
        )
    beside = f", control's {found['control_share'].value:.3f}" if "control_share" in found else ""
    return f"{text}; {target}'s share is {found['share'].value:.3f} (base {found['base_share'].value:.3f}{beside})"


def _interval(measure: Measure) -> str:
    return "" if measure.low is None or measure.high is None else f" [{measure.low:.2f}, {measure.high:.2f}]"
