"""A verdict per contrast in plain words, and whether the author's expectation held."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from subl.report.arms import VALID
from subl.report.contrasts import Contrast
from subl.report.evidence import ALPHA
from subl.report.formatting import number, probability, size

MATTERS = 0.25
"""Part of the teacher's own lift from which on a lift would matter, where the recipe names none."""
INVALID = 0.5
"""A student whose valid share is below this part of its base model's says too little (the rule of `teacher_check`)."""

Kind = Literal["transferred", "none", "below", "above", "inconclusive", "invalid"]
LABELS: Mapping[Kind, str] = {
    "transferred": "transferred",
    "none": "no transfer detected",
    "below": "no transfer, fell below",
    "above": "no transfer, rose above",
    "inconclusive": "inconclusive",
    "invalid": "invalid",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a contrast shows.

    Args:
        kind: The class of the verdict.
        reason: Why, in words; for a null result with the smallest lift that the design could have seen.
    """

    kind: Kind
    reason: str

    @property
    def label(self) -> str:
        """The verdict in a few words."""
        return LABELS[self.kind]


def judge(contrast: Contrast, smallest: float | None) -> Verdict:
    """Return the verdict on a contrast.

    A lift counts as transfer if it is above 0 (below, where smaller values mean more of the trait) with p < 0.05 in the
    paired t test, adjusted by Holm for the run's contrasts. A null counts as one only if the design had 80 % power for
    a lift that matters, and the interval excludes such a lift; else it is inconclusive.

    Args:
        contrast: The contrast.
        smallest: The size of lift from which on an effect would matter; a quarter of the teacher's own lift if None.
    """
    doubts = list(reasons_against(contrast))
    if doubts:
        return Verdict("invalid", "because " + "; ".join(doubts))
    tests, mean = contrast.evidence, contrast.paired.mean
    if tests.pairs == 1:
        return Verdict("inconclusive", "the spread over runs is unknown")
    if math.isnan(tests.t):
        return Verdict("inconclusive", "the runs do not differ at all from each other, so their spread is unknown")
    if contrast.adjusted < ALPHA:
        other: Kind = "below" if contrast.sign > 0 else "above"
        kind: Kind = "transferred" if contrast.sign * mean.value > 0 else other
        return Verdict(kind, f"{probability(contrast.adjusted)} ({_test(contrast)})")
    return _null(contrast, smallest)


def _null(contrast: Contrast, smallest: float | None) -> Verdict:
    tests, sign = contrast.evidence, contrast.sign
    seen = f"this design sees lifts from {number(sign * tests.detectable)} on (80 % power)"
    if tests.t < ALPHA:
        alone = (
            f"{probability(tests.t)} by itself, but {probability(contrast.adjusted)} among {contrast.family} contrasts"
        )
        return Verdict("inconclusive", f"{alone}; {seen}")
    matters, why = _matters(contrast, smallest)
    p = f"{probability(contrast.adjusted)} ({_test(contrast)})"
    if not matters > 0:
        return Verdict(
            "inconclusive", f"{p}; {seen}; nothing says which lift would matter: set [report] smallest_effect"
        )
    mean = contrast.paired.mean
    end = mean.high if sign > 0 else mean.low
    reaches = math.nan if end is None else end
    if tests.detectable > matters or not sign * reaches < matters:
        return Verdict(
            "inconclusive",
            f"{p}; {seen}, the interval reaches {number(reaches)}, and {number(sign * matters)} would matter ({why}): "
            "more seeds are needed",
        )
    return Verdict("none", f"{p}; {seen}")


def _matters(contrast: Contrast, smallest: float | None) -> tuple[float, str]:
    if smallest is not None:
        return smallest, "[report] smallest_effect"
    return MATTERS * contrast.teacher_gain, "a quarter of the teacher's own lift"


def _test(contrast: Contrast) -> str:
    family = f", Holm over {contrast.family} contrasts" if contrast.family > 1 else ""
    return f"paired t{family}"


def reasons_against(contrast: Contrast) -> Iterator[str]:
    """Yield why a contrast means nothing, whatever its numbers."""
    empty = [arm.name for arm in (contrast.arm, contrast.against) if not arm.measured]
    yield from (f"no run of {name} has a value of {contrast.metric}" for name in empty)
    if not contrast.evidence.pairs and not empty:
        sides = f"{contrast.arm.name} and {contrast.against.name}"
        yield f"no run of {sides} has a partner with the same seed: the arms are unpaired"
    for arm in (contrast.arm, contrast.against):
        low = [
            (valid.value, base)
            for run in arm.runs
            if (valid := run.measure("student", f"{contrast.metric.partition('.')[0]}.{VALID}"))
            if valid.value < INVALID * (base := _base_valid(run.value("base", f"{_probe(contrast)}.{VALID}")))
        ]
        if low:
            worst, base = min(low)
            of = f"{len(low)} of {len(arm.runs)} students" if len(arm.runs) > 1 else "the student"
            yield f"{of} of {arm.name} gave few valid answers (valid share {number(worst)}, base model {number(base)})"
    yield from _weak_teacher(contrast)
    yield from _found_wrong(contrast)


def _probe(contrast: Contrast) -> str:
    return contrast.metric.partition(".")[0]


def _base_valid(value: float) -> float:
    return value if math.isfinite(value) else 1.0


def _weak_teacher(contrast: Contrast) -> Iterator[str]:
    """A teacher that is no better than its base cannot pass anything on; arms without a check have none on purpose."""
    problems = [p for run in contrast.arm.runs for p in run.faults.get("check", ())]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        yield f"the teacher did not pass its check: {problems[0]}{more}"
    checked = any("check" in run.record.get("findings", {}) for run in contrast.arm.runs)
    if checked and not problems and contrast.teacher_gain <= 0:
        side = "above" if contrast.sign > 0 else "below"
        yield f"the teacher is weak: its own {contrast.metric} is not {side} its base model's"


def _found_wrong(contrast: Contrast) -> Iterator[str]:
    for arm in (contrast.arm, contrast.against):
        for run in arm.runs:
            for name, problems in run.faults.items():
                if name != "check":
                    yield f"{name} found in {run.label}: {'; '.join(problems)}"


Outcome = Literal["met", "not met", "undecided", "not judged"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether the author's expectation held.

    Args:
        outcome: What became of it.
        text: Expectation and outcome as a sentence.
    """

    outcome: Outcome
    text: str


def judge_expectation(
    expectation: Mapping[str, Any],
    contrasts: Mapping[str, tuple[Contrast, Verdict]],
    metric: str,
    *,
    results_known: bool = False,
) -> Judgement:
    """Return whether the interval of the lift lies where it was expected; one that reaches across is undecided.

    Args:
        expectation: The recipe's.
        contrasts: Label → contrast and verdict.
        metric: What the lift is in.
        results_known: Whether students were measured before the expectation was written, so that it predicts nothing.
    """
    name, direction, threshold = expectation["contrast"], expectation["direction"], float(expectation["threshold"])
    bound = number(threshold)
    where = {"above": f"above {number(threshold, signed=threshold > 0)}", "below": f"below {number(-threshold)}"}
    place = where.get(direction, f"between {number(-threshold)} and {bound}")
    when = "expected only after results were in the store" if results_known else "expected before the run"
    expected = f"{when}: {metric} lift of {name} {place}"
    found = [(contrast, verdict) for contrast, verdict in contrasts.values() if contrast.name == name]
    if not found:
        return Judgement("not judged", f"{expected}; not judged: there is no such contrast in this run")
    outcomes = [_outcome(contrast, verdict, direction, threshold) for contrast, verdict in found]
    order: tuple[Outcome, ...] = ("not judged", "not met", "undecided", "met")
    outcome = min(outcomes, key=order.index)
    sizes = ", ".join(size(c.paired.mean) for c, _ in found)
    reasons = {"not judged": "no interval over valid pairs", "undecided": "the interval reaches across the threshold"}
    why = f" ({reasons[outcome]})" if outcome in reasons else ""
    return Judgement(outcome, f"{expected}; found {sizes.strip()}: {outcome}{why}")


def _outcome(contrast: Contrast, verdict: Verdict, direction: str, threshold: float) -> Outcome:
    mean = contrast.paired.mean
    if verdict.kind == "invalid" or mean.low is None or mean.high is None:
        return "not judged"
    low, high = (mean.low, mean.high) if direction != "below" else (-mean.high, -mean.low)
    if direction == "within":
        inside, outside = -threshold < low and high < threshold, low > threshold or high < -threshold
        return "met" if inside else "not met" if outside else "undecided"
    return "met" if low > threshold else "not met" if high < threshold else "undecided"
