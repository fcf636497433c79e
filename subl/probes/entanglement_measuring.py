"""The measuring behind the probe `entanglement`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from subl.artifacts import Findings, ModelRef, Subject
from subl.context import Context
from subl.probes.candidates import LOW_VALID
from subl.probes.entanglement import Entanglement
from subl.probes.entanglement_effects import Effects, analyse
from subl.probes.entanglement_figures import distribution, lengths, matrix, shift_figure, steps
from subl.probes.entanglement_readings import Reader
from subl.probes.entanglement_shift import Shift
from subl.probes.entanglement_steps import neutral_numbers, step_two
from subl.probes.entanglement_tables import measures, set_lines, tables, verdict
from subl.probes.entanglement_wording import Wording
from subl.probes.number_sets import read_numbers, reader_of
from subl.probes.subject import PreferenceTrait, same_origin


def measure(subject: Subject, trait: PreferenceTrait, config: Entanglement.Config, ctx: Context) -> Findings:
    """Return the findings on one model; see `Entanglement`."""
    wording = Wording.of(trait, config)
    rng = np.random.default_rng(ctx.seed)
    one = read_numbers(subject.model, wording, config, ctx)
    reader = reader_of(subject.model, wording, config, ctx)
    two = step_two(reader, wording, trait, one, config, rng)
    effects = analyse(one, two, permutations=config.permutations, rng=rng)
    shared = reader.split(one.numbers, wording.number_questions[0])
    sentence = verdict(effects, trait.target, shared=shared)
    ctx.log(f"{subject.role}: {sentence}")
    for line in set_lines(effects):
        ctx.log(f"{subject.role}: {line}")
    title = f"{subject.role}: {trait.target}"
    ctx.figure("distribution", distribution(effects, title))
    ctx.figure("steps", steps(effects, title))
    ctx.figure("targets", matrix(effects, title))
    ctx.figure("lengths", lengths(effects, title))
    found, shown, remarks = measures(effects), tables(effects), [sentence, *_remarks(effects)]
    if shared:
        remarks.append(
            "numbers share tokens, and what they do is alike for that reason alone: p of correlations and comparisons "
            "over numbers is too small, and intervals too narrow; matched_p, which shuffles targets, holds"
        )
    if subject.role == "student" and subject.base is not None:
        shift = _shift(subject, subject.base, reader, wording, config, ctx)
        found |= shift.measures(permutations=config.permutations, rng=rng)
        shown["shift"] = shift.table()
        remarks.append(shift.sentence(found))
        ctx.figure("shift", shift_figure(shift))
    return Findings(found, shown, remarks=tuple(remarks))


def _shift(
    subject: Subject, base: ModelRef, student: Reader, wording: Wording, config: Entanglement.Config, ctx: Context
) -> Shift:
    """Return what training did to the numbers, here and in the control arm, if its student began as the same model."""
    before = read_numbers(base, wording, config, ctx)
    own = neutral_numbers(student, wording, config, before.numbers)
    control = None
    if subject.control is not None and same_origin(subject.control, base):
        control = neutral_numbers(reader_of(subject.control, wording, config, ctx), wording, config, before.numbers)
    return Shift.between(before, own, control)


def _remarks(effects: Effects) -> Iterator[str]:
    one, two = effects.one, effects.two
    if one.left_out:
        yield f"{one.left_out} numbers of the range are several tokens, and method 'vocabulary' leaves them out"
    if one.valid < LOW_VALID:
        yield (
            f"asked for a number, the model answers with one of the range with probability {one.valid:.2f} only: "
            "step 1 describes few answers"
        )
    for name, valid in (("without a preamble", two.valid), ("under preambles about numbers", two.valid_in_context)):
        if valid < LOW_VALID:
            yield f"{name}, only {valid:.0%} of the probability is on candidates: step 2 describes few answers"
    if (one.sorting[one.sets.hp] <= 0).any():
        yield "some HP numbers do not rise: HP are the numbers that rise most, or fall least"
    if (one.sorting[one.sets.lp] >= 0).any():
        yield "some LP numbers do not fall: LP are the numbers that fall most, or rise least"
