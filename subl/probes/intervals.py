"""Within-run uncertainty: the spread over questions or answers of one model. It says nothing about other runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from subl.artifacts import Measure

LEVEL = 0.95
ANYWHERE = (-math.inf, math.inf)
UNIT = (0.0, 1.0)

Values = Sequence[float] | NDArray[np.float64]


def mean_over(values: Values, of: str, *, within: tuple[float, float] = ANYWHERE) -> Measure:
    """Return the mean with a 95 % t interval, cut to `within`; a single value has no interval.

    Args:
        values: One value per unit.
        of: What the units are, in the plural: "questions".
        within: Bounds that the mean cannot leave.
    """
    array = np.asarray(values, dtype=np.float64)
    return _around(float(array.mean()), array, of, within)


def ratio_over(numerators: Values, denominators: Values, of: str, *, within: tuple[float, float] = UNIT) -> Measure:
    """Return Σ numerators / Σ denominators, a share unless `within` says otherwise, with a 95 % t interval.

    The interval linearises the ratio: the spread of (x − r·y) / mean(y) over the units (Cochran, Sampling Techniques,
    section 6.3). Denominators that add up to nothing give NaN.
    """
    ratio, influence = linearised_ratio(numerators, denominators)
    return _around(ratio, influence, of, within)


def linearised_ratio(numerators: Values, denominators: Values) -> tuple[float, NDArray[np.float64]]:
    """Return the ratio of sums, and each unit's influence on it; the influences have mean 0."""
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if not bottom.sum() > 0:
        return math.nan, np.zeros_like(top)
    ratio = float(top.sum() / bottom.sum())
    return ratio, (top - ratio * bottom) / bottom.mean()


def ratio_change(
    after: tuple[Values, Values],
    before: tuple[Values, Values],
    of: str,
    *,
    within: tuple[float, float] = (-1.0, 1.0),
) -> Measure:
    """Return the change of a ratio of sums between two models on the same units, with a paired 95 % t interval."""
    new, new_influence = linearised_ratio(*after)
    old, old_influence = linearised_ratio(*before)
    return _around(new - old, new_influence - old_influence, of, within)


def rate_over(hits: int, total: int, of: str) -> Measure:
    """Return hits / total with a 95 % Wilson interval (Newcombe 1998, method 3); no trials give NaN."""
    if total == 0:
        return Measure(math.nan, n=0)
    rate, z = hits / total, float(ndtri((1 + LEVEL) / 2))
    scale = 2 * (total + z**2)
    centre = (2 * total * rate + z**2) / scale
    half = z / scale * math.sqrt(4 * total * rate * (1 - rate) + z**2)
    low, high = (0.0 if hits == 0 else centre - half), (1.0 if hits == total else centre + half)
    return Measure(rate, low, high, total, f"95 % Wilson over {total} {of}")


def _around(value: float, spread: NDArray[np.float64], of: str, within: tuple[float, float]) -> Measure:
    count = len(spread)
    if count < 2 or math.isnan(value):
        return Measure(value, n=count)
    half = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * float(spread.std(ddof=1) / count**0.5)
    low, high = max(value - half, within[0]), min(value + half, within[1])
    return Measure(value, low, high, count, f"95 % t over {count} {of}")
