"""Statistics over trained runs. The unit is one trained run; runs are paired by sweep point with their control."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from scipy.special import stdtrit

from subl.artifacts import Measure

LEVEL = 0.95

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Paired(Generic[K]):
    """Differences of runs that belong together.

    Args:
        mean: Mean difference with its t interval over pairs; NaN where there is no pair.
        differences: Pair → difference.
        above: Pairs with a positive difference.
        below: Pairs with a negative difference.
        unpaired: Keys that only one side has a value for.
    """

    mean: Measure
    differences: Mapping[K, float]
    above: int
    below: int
    unpaired: tuple[K, ...]


def mean_over_runs(values: Sequence[float], of: str = "runs") -> Measure:
    """Return the mean with a 95 % t interval over runs.

    One run has no interval: nothing is known about the spread of runs. None has the mean NaN.
    """
    n = len(values)
    if n == 0:
        return Measure(math.nan, n=0)
    mean = math.fsum(values) / n
    if n == 1:
        return Measure(mean, n=1)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stdtrit(n - 1, (1 + LEVEL) / 2)) * spread / math.sqrt(n)
    return Measure(mean, mean - half, mean + half, n, f"95 % t over {n} {of}")


def paired_difference(values: Mapping[K, float], references: Mapping[K, float]) -> Paired[K]:
    """Return value − reference per key, and their mean. NaN counts as no value."""
    here, there = ({key: value for key, value in side.items() if math.isfinite(value)} for side in (values, references))
    differences = {key: value - there[key] for key, value in here.items() if key in there}
    return Paired(
        mean=mean_over_runs(list(differences.values()), "pairs"),
        differences=differences,
        above=sum(difference > 0 for difference in differences.values()),
        below=sum(difference < 0 for difference in differences.values()),
        unpaired=tuple(key for key in {**values, **references} if key not in differences),
    )


def from_base(after: float, before: float, other_before: float) -> float:
    """Return a student's value, moved by what its base model differs from that of the student it is compared with.

    So a lift compares changes where the two start from different models, and values where they start from the same one
    or where a base was not measured.
    """
    start = before - other_before
    return after - start if math.isfinite(start) else after


def welch_difference(values: Sequence[float], references: Sequence[float]) -> Measure:
    """Return the difference of two means with Welch's 95 % t interval, for runs that have no partners.

    A side with fewer than two runs gives no interval.
    """
    sides = [(len(side), math.fsum(side) / len(side)) for side in (values, references)]
    difference = sides[0][1] - sides[1][1]
    n = sides[0][0] + sides[1][0]
    if min(size for size, _ in sides) < 2:
        return Measure(difference, n=n)
    errors = [
        math.fsum((value - mean) ** 2 for value in side) / (size - 1) / size
        for side, (size, mean) in zip((values, references), sides, strict=True)
    ]
    whole = math.fsum(errors)
    if whole == 0:
        return Measure(difference, difference, difference, n, f"95 % Welch t over {n} runs")
    freedom = whole**2 / math.fsum(e**2 / (size - 1) for e, (size, _) in zip(errors, sides, strict=True))
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * math.sqrt(whole)
    return Measure(difference, difference - half, difference + half, n, f"95 % Welch t over {n} runs")
