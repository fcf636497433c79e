"""Arms side by side: means over their runs, and differences from another arm, paired by sweep point."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from subl.artifacts import Measure, Role
from subl.report.runs import Run, group
from subl.report.statistics import Paired, from_base, mean_over_runs, paired_difference

VALID = "valid"
MARGIN = "margin"


@dataclass(frozen=True, slots=True)
class Arm:
    """The runs of one arm that differ in seeds only.

    Args:
        name: The arm.
        settings: Other sweep values, e.g. "updates=60"; "" without such a sweep.
        runs: All its runs, also those without a result.
        metric: The metric that the numbers below are of.
        before: Metric of the student's base model, per run's pair key.
        after: Metric of the trained student, per run's pair key.
        base: Mean of `before`; None if nothing was measured. With one run: that run's own value and interval.
        student: Mean of `after`, likewise.
        valid: Mean share of valid answers of the students; None if the probe does not measure it.
        margin: Mean logit margin of base and student; None if the probe does not measure it.
        change: student − base per run, and its mean.
        against: The arm that the lift is over; None for the control itself.
        lift: student − that arm's student per pair, or the difference of their changes where their base models
            differ; None without such an arm.
    """

    name: str
    settings: str
    runs: tuple[Run, ...]
    metric: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    base: Measure | None
    student: Measure | None
    valid: Measure | None
    margin: tuple[Measure | None, Measure | None]
    change: Paired[str]
    against: str | None
    lift: Paired[str] | None

    @property
    def measured(self) -> int:
        """Number of students with a value."""
        return sum(map(math.isfinite, self.after.values()))

    @property
    def label(self) -> str:
        """The arm's name for readers, with what else tells it from others."""
        return f"{self.name} · {self.settings}" if self.settings else self.name


def compare_arms(runs: Sequence[Run], metric: str) -> list[Arm]:
    """Return every arm with its means, and its lift over its reference with the same settings."""
    groups = group(runs)
    students = {key: _values(members, "student", metric) for key, members in groups.items()}
    bases = {key: _values(members, "base", metric) for key, members in groups.items()}
    arms = []
    for (name, settings), members in groups.items():
        before, after = bases[name, settings], students[name, settings]
        against = members[0].reference
        reference = students.get((against, settings)) if against else None
        start = bases.get((against, settings), {}) if against else {}
        beside = metric.partition(".")[0]
        arms.append(
            Arm(
                name=name,
                settings=settings,
                runs=tuple(members),
                metric=metric,
                before=before,
                after=after,
                base=mean(members, "base", metric),
                student=mean(members, "student", metric),
                valid=mean(members, "student", f"{beside}.{VALID}"),
                margin=(mean(members, "base", f"{beside}.{MARGIN}"), mean(members, "student", f"{beside}.{MARGIN}")),
                change=paired_difference(after, before),
                against=against,
                lift=None if reference is None else lift_over(after, before, reference, start),
            )
        )
    return arms


def lift_over(
    after: Mapping[str, float],
    before: Mapping[str, float],
    reference: Mapping[str, float],
    start: Mapping[str, float],
) -> Paired[str]:
    """Return how much further students moved than those of another arm, per pair.

    Args:
        after: The students.
        before: Their base models.
        reference: The other arm's students.
        start: Their base models.
    """
    moved = {
        pair: from_base(value, before.get(pair, math.nan), start.get(pair, math.nan)) for pair, value in after.items()
    }
    return paired_difference(moved, reference)


def mean(runs: Sequence[Run], role: Role, metric: str) -> Measure | None:
    """Return the mean of a measure over runs; of a single run its own value and interval; None without a value."""
    found = [measure for run in runs if (measure := run.measure(role, metric)) is not None]
    if len(found) == 1:
        return found[0]
    return mean_over_runs([measure.value for measure in found]) if found else None


def _values(runs: Sequence[Run], role: Role, metric: str) -> dict[str, float]:
    return {run.pair: found.value if (found := run.measure(role, metric)) else math.nan for run in runs}
