"""A table in words: what it shows, and what limits it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from subl.report.arms import VALID, Arm
from subl.report.audits import audit_sentences
from subl.report.contrasts import Absent, Contrast
from subl.report.formatting import change, names, number, size
from subl.report.verdicts import Verdict

Judged: TypeAlias = tuple[Contrast, Verdict]

LOW_VALID = 0.9
LEAST_VALID = 0.5


def sentences(arms: Sequence[Arm], judged: Sequence[Judged], metric: str) -> Iterator[str]:
    """Yield one sentence per contrast, one per arm in none, one on all arms' rows, and what the intervals are over."""
    measure = metric.partition(".")[2]
    for contrast, verdict in judged:
        yield f"{contrast.label}: {verdict.label}. {found(contrast, measure)}{verdict.reason}"
    subjects = {(contrast.arm.name, contrast.arm.settings) for contrast, _ in judged}
    for arm in arms:
        if arm.student is not None and (arm.name, arm.settings) not in subjects:
            moved = arm.change.mean
            moved_by = f"; change {size(moved)}" if arm.change.differences else ""
            yield f"{arm.label}: {measure} {_course(arm)}{moved_by}"
    yield from audit_sentences(arms)
    yield from _intervals(arms)


def found(contrast: Contrast, measure: str) -> str:
    """Return what a contrast measured, as the beginning of a sentence; "" where there is nothing."""
    pairs = contrast.evidence.pairs
    if contrast.arm.student is None or not pairs:
        return ""
    against = f"{size(contrast.paired.mean)} against {contrast.against.name}"
    paired = contrast.paired
    side = f"above it in {paired.above}" if contrast.sign > 0 else f"below it in {paired.below}"
    signs = "in one pair of runs" if pairs == 1 else f"{side} of {pairs} pairs"
    return f"{measure} {_course(contrast.arm)}; {against}, {signs}; "


def warnings(arms: Sequence[Arm], absent: Sequence[Absent], metric: str, control: str) -> Iterator[str]:
    """Yield what a reader must know before believing the table."""
    yield from _failures(arms)
    yield from (f"contrast {item.label!r} is not judged: {item.reason}" for item in absent)
    if not any(arm.measured for arm in arms):
        yield f"no run has a value of {metric!r} for its student{_measured(arms)}"
        return
    if all(arm.name != control for arm in arms):
        yield f"there is no arm {control!r}: nothing here tells the trait's effect from that of training as such"
    yield from _without_value(arms, metric)
    yield from _without_partner(arms)
    yield from _invalid(arms, metric)


def _course(arm: Arm) -> str:
    assert arm.student is not None
    return number(arm.student.value) if arm.base is None else change(arm.base, arm.student).splitlines()[0]


def _intervals(arms: Sequence[Arm]) -> Iterator[str]:
    if any(arm.measured > 1 for arm in arms):
        yield "intervals are 95 % t intervals over trained runs; of the lift, over pairs of runs"
    single = [arm for arm in arms if arm.measured == 1]
    if single:
        within = sorted({arm.student.interval for arm in single if arm.student and arm.student.interval})
        spread = f"its interval is the spread within that run ({names(within)})" if within else "it has no interval"
        yield (
            f"a single run of {names([arm.label for arm in single])}: {spread}, not over runs; more seeds give one, "
            "e.g. [sweep] seed = [0, 1, 2, 3, 4]"
        )


def _failures(arms: Sequence[Arm]) -> Iterator[str]:
    """Name failed runs, and what checks found; what runs have in common, such as their teacher, is said once."""
    said: dict[str, list[str]] = {}
    for arm in arms:
        for run in arm.runs:
            if run.status == "failed":
                reason = (run.error or "no reason recorded").strip().splitlines()[0]
                said.setdefault(f" failed: {reason}", []).append(run.label)
            for problem in run.problems:
                said.setdefault(f": {problem}", []).append(run.label)
    yield from (f"{names(labels)}{text}" for text, labels in said.items())
    missing = [run.label for arm in arms for run in arm.runs if run.status not in ("finished", "failed")]
    if missing:
        yield f"not finished: {names(missing)}"


def _measured(arms: Sequence[Arm]) -> str:
    known = {
        f"{name.removeprefix('student.')}.{measure}"
        for arm in arms
        for run in arm.runs
        for name, found in run.record.get("findings", {}).items()
        if name.startswith("student.")
        for measure in found.get("measures", {})
    }
    return f"; measured: {names(sorted(known), 12)} ([report] metric names one)" if known else ""


def _without_value(arms: Sequence[Arm], metric: str) -> Iterator[str]:
    finished = [run for arm in arms for run in arm.runs if run.status == "finished"]
    empty = [run.label for run in finished if run.measure("student", metric) is None]
    if empty:
        yield f"no value of {metric!r}, left out of the means: {names(empty)}"


def _without_partner(arms: Sequence[Arm]) -> Iterator[str]:
    for arm in arms:
        if arm.lift is not None and arm.lift.unpaired:
            alone = names(list(arm.lift.unpaired))
            yield f"{arm.label} and {arm.against} have no pair for {alone}: left out of the lift"


def _invalid(arms: Sequence[Arm], metric: str) -> Iterator[str]:
    valid = f"{metric.partition('.')[0]}.{VALID}"
    low = [
        f"{run.label} ({number(after)})"
        for arm in arms
        for run in arm.runs
        if (after := run.value("student", valid)) < max(LEAST_VALID, LOW_VALID * _or_one(run.value("base", valid)))
    ]
    if low:
        yield (
            f"valid share below {LOW_VALID:g} of the base model's or below {LEAST_VALID:g}, so that the metric says "
            "less about these students: "
            f"{names(low)}"
        )


def _or_one(value: float) -> float:
    return value if math.isfinite(value) else 1.0
