"""A table in words: what it shows, and what limits it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from subl.artifacts import Measure
from subl.report.arms import VALID, Arm
from subl.report.formatting import change, interval, names, number

LOW_VALID = 0.9


def sentences(arms: Sequence[Arm], metric: str, control: str) -> Iterator[str]:
    """Yield one sentence per arm with a result, and what the intervals are over."""
    measure = metric.partition(".")[2]
    for arm in arms:
        if arm.student is not None:
            course = number(arm.student.value) if arm.base is None else change(arm.base, arm.student).splitlines()[0]
            yield f"{arm.label}: {measure} {course}{_against(arm, control)}"
    yield from _intervals(arms)


def warnings(arms: Sequence[Arm], metric: str, control: str) -> Iterator[str]:
    """Yield what a reader must know before believing the table."""
    yield from _failures(arms)
    if not any(arm.measured for arm in arms):
        yield f"no run has a value of {metric!r} for its student{_measured(arms)}"
        return
    if all(arm.name != control for arm in arms):
        yield f"there is no arm {control!r}: nothing here tells the trait's effect from that of training as such"
    yield from _without_value(arms, metric)
    yield from _without_partner(arms, control)
    yield from _invalid(arms, metric)


def _against(arm: Arm, control: str) -> str:
    paired = arm.change if arm.lift is None else arm.lift
    pairs = len(paired.differences)
    if not pairs:
        return ""
    size = f"{number(paired.mean.value, signed=True)} {interval(paired.mean, signed=True)}".rstrip()
    if arm.lift is None:
        return f"; change {size}"
    if pairs == 1:
        return f"; {size} against {control}, in one pair of runs"
    signs = f"above it in {paired.above} of {pairs} pairs"
    return f"; {size} against {control}, {signs}; the interval {_position(paired.mean)}"


def _position(mean: Measure) -> str:
    if mean.low is not None and mean.low > 0:
        return "lies above 0"
    if mean.high is not None and mean.high < 0:
        return "lies below 0"
    return "contains 0: no difference is shown"


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
    for arm in arms:
        for run in arm.runs:
            if run.status == "failed":
                reason = (run.error or "no reason recorded").strip().splitlines()[0]
                yield f"{run.label} failed: {reason}"
            yield from (f"{run.label}: {problem}" for problem in run.problems)
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


def _without_partner(arms: Sequence[Arm], control: str) -> Iterator[str]:
    for arm in arms:
        if arm.lift is not None and arm.lift.unpaired:
            yield f"{arm.label} and {control} have no pair for {names(list(arm.lift.unpaired))}: left out of the lift"
        elif arm.lift is None and arm.name != control and any(other.name == control for other in arms):
            yield f"{arm.label} has no {control} with the same settings: no lift"


def _invalid(arms: Sequence[Arm], metric: str) -> Iterator[str]:
    probe = metric.partition(".")[0]
    low = [
        f"{run.label} ({number(valid.value)})"
        for arm in arms
        for run in arm.runs
        if (valid := run.measure("student", f"{probe}.{VALID}")) is not None and valid.value < LOW_VALID
    ]
    if low:
        yield f"valid share below {LOW_VALID:g}, so that the metric says little about these students: {names(low)}"
