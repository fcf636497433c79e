"""The measuring behind the probe `entanglement`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from subl.artifacts import Findings, Measure, ModelRef, Subject, Table
from subl.context import Context
from subl.probes.candidates import LOW_VALID
from subl.probes.entanglement import Entanglement
from subl.probes.entanglement_effects import Effects, analyse
from subl.probes.entanglement_figures import distribution, lengths, matrix, shift_figure, steps
from subl.probes.entanglement_readings import ROUNDING, Reader
from subl.probes.entanglement_statistics import correlate, difference
from subl.probes.entanglement_steps import neutral_numbers, step_one, step_two
from subl.probes.entanglement_tables import measures, set_lines, tables, verdict
from subl.probes.entanglement_wording import Wording
from subl.probes.intervals import mean_over
from subl.probes.subject import PreferenceTrait, open_model


def measure(subject: Subject, trait: PreferenceTrait, config: Entanglement.Config, ctx: Context) -> Findings:
    """Return the findings on one model; see `Entanglement`."""
    wording = Wording.of(trait, config)
    rng = np.random.default_rng(ctx.seed)
    reader = _reader(subject.model, wording, config, ctx)
    one = step_one(reader, wording, config)
    two = step_two(reader, wording, trait, one, config, rng)
    effects = analyse(one, two, permutations=config.permutations, rng=rng)
    sentence = verdict(effects, trait.target)
    ctx.log(f"{subject.role}: {sentence}")
    for line in set_lines(effects):
        ctx.log(f"{subject.role}: {line}")
    title = f"{subject.role}: {trait.target}"
    ctx.figure("distribution", distribution(effects, title))
    ctx.figure("steps", steps(effects, title))
    ctx.figure("targets", matrix(effects, title))
    ctx.figure("lengths", lengths(effects, title))
    found, shown, remarks = measures(effects), tables(effects), [sentence, *_remarks(effects)]
    if subject.role == "student" and subject.base is not None:
        shifts, table = _shift(_reader(subject.base, wording, config, ctx), reader, wording, config, ctx, rng)
        found |= shifts
        shown["shift"] = table
        remarks.append(_moved(shifts))
    return Findings(found, shown, remarks=tuple(remarks))


def _reader(model: ModelRef, wording: Wording, config: Entanglement.Config, ctx: Context) -> Reader:
    lm, system = open_model(model, ctx)
    return Reader(lm, system, wording.preambles, ctx, batch_size=config.batch_size)


def _shift(
    base: Reader,
    student: Reader,
    wording: Wording,
    config: Entanglement.Config,
    ctx: Context,
    rng: np.random.Generator,
) -> tuple[dict[str, Measure], Table]:
    """Return what training did to the numbers that were HP, LP and UNCH in the base."""
    before = step_one(base, wording, config)
    shift = neutral_numbers(student, wording, config, before.numbers) - before.neutral
    shift[np.abs(shift) < ROUNDING] = 0
    sets = before.sets.named()
    rest = np.setdiff1d(np.arange(len(shift)), np.concatenate(list(sets.values())))
    found = {
        f"shift_{name.lower()}": mean_over(shift[positions], "numbers")
        for name, positions in {**sets, "random": rest}.items()
    }
    found["shift_hp_minus_lp"] = difference(shift[sets["HP"]], shift[sets["LP"]], "numbers")
    correlation = correlate(before.sorting, shift, permutations=config.permutations, rng=rng)
    found["shift_correlation"] = correlation.measure()
    found["shift_correlation_p"] = Measure(correlation.p)
    ctx.figure("shift", shift_figure(before, shift))
    names = {int(i): name for name, positions in sets.items() for i in positions}
    rows = [
        (number, names.get(i, ""), float(before.sorting[i]), float(before.neutral[i]), float(shift[i]))
        for i, number in enumerate(before.numbers)
    ]
    columns = ("number", "set_in_base", "step1_in_base", "base_log_prob", "shift")
    return found, Table(columns, tuple(sorted(rows, key=lambda row: -row[2])))


def _moved(shifts: Mapping[str, Measure]) -> str:
    high, low, gap = (shifts[f"shift_{name}"] for name in ("hp", "lp", "hp_minus_lp"))
    return (
        f"training changed the log-probability of the base's HP numbers by {high.value:+.2f} and of its LP numbers by "
        f"{low.value:+.2f} nats (difference {gap.value:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]); "
        "the control arm's figures tell whether the trait did that, or any training on numbers"
    )


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
