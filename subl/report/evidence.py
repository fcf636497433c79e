"""Tests of paired differences over trained runs, for one experiment or for many at once (the last axis are pairs)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, gammaln, nctdtrinc, stdtr, stdtrit

from subl.report.formatting import ROUNDING
from subl.report.statistics import LEVEL

Floats: TypeAlias = NDArray[np.float64]

ALPHA = 1 - LEVEL
POWER = 0.8
EXACT_PAIRS = 15
"""Up to this many pairs every pattern of signs is tried; beyond, a seeded sample of them."""
SAMPLED_FLIPS = 20_000


@dataclass(frozen=True, slots=True)
class Evidence:
    """What paired differences say about a difference of 0; NaN where there are too few pairs for a number.

    Args:
        pairs: Number of pairs.
        t: Two-sided p of the paired t test.
        flip: Two-sided p of the exact sign-flip permutation test.
        least_flip: The smallest p that so many pairs can give in that test.
        sign: Two-sided p of the sign test; pairs without a difference are left out.
        effect: Standardised effect for pairs: mean difference / standard deviation of the differences, with Hedges'
            correction (g_z; Lakens 2013). Not comparable with a d of unpaired groups.
        detectable: Smallest lift that a paired t test of this spread and so many pairs finds with 80 % power, at the
            level that Holm leaves in the worst case.
    """

    pairs: int
    t: float
    flip: float
    least_flip: float
    sign: float
    effect: float
    detectable: float


def weigh(differences: Sequence[float], *, family: int = 1) -> Evidence:
    """Return all tests of one set of paired differences; `detectable` is at the level that a family of tests leaves."""
    n = len(differences)
    values = np.asarray(differences, dtype=np.float64)
    spread = float(values.std(ddof=1)) if n > 1 else math.nan
    return Evidence(
        pairs=n,
        t=float(paired_t(values)) if n > 1 else math.nan,
        flip=float(sign_flips(values)) if n else math.nan,
        least_flip=0.5 ** (n - 1) if 0 < n <= EXACT_PAIRS else 1 / (SAMPLED_FLIPS + 1) if n else math.nan,
        sign=float(sign_test(values)) if n else math.nan,
        effect=float(standardised(values)) if n > 2 else math.nan,
        detectable=detectable(spread, n, alpha=ALPHA / family),
    )


def paired_t(differences: ArrayLike) -> Floats:
    """Return the two-sided p of the paired t test; NaN for differences without any spread, or 1 if they are all 0.

    Equal differences come from rounded rates or shared results: they say nothing of how far others would lie.
    """
    values = _cleaned(differences)
    n = values.shape[-1]
    mean, error = values.mean(axis=-1), values.std(axis=-1, ddof=1) / math.sqrt(n)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(n - 1, -np.abs(mean / error))
    spread = error > np.abs(mean) * np.finfo(np.float64).eps * 16
    return np.asarray(np.where(spread, p, np.where(mean == 0, 1.0, math.nan)))


def sign_flips(differences: ArrayLike, *, seed: int = 0) -> Floats:
    """Return the two-sided p of the paired permutation test: how many patterns of signs give as large a mean?

    Exact up to `EXACT_PAIRS` pairs; beyond, over a seeded sample of patterns to which the observed one is added, so
    that it is never 0 (Phipson & Smyth 2010).
    """
    values = _cleaned(differences)
    observed = np.abs(values.sum(axis=-1))[..., None] * (1 - 1e-9)
    n = values.shape[-1]
    if n <= EXACT_PAIRS:
        # A pattern and its opposite give the same absolute mean: half of them are enough.
        patterns = 1 - 2 * ((np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1)
        return np.asarray((np.abs(values @ patterns.T) >= observed).mean(axis=-1))
    patterns = np.random.default_rng(seed).choice((-1, 1), size=(SAMPLED_FLIPS, n))
    as_large = (np.abs(values @ patterns.T) >= observed).sum(axis=-1)
    return np.asarray((as_large + 1) / (SAMPLED_FLIPS + 1))


def sign_test(differences: ArrayLike) -> Floats:
    """Return the two-sided p of the sign test (binomial, one half); ties are left out, and nothing else gives 1."""
    values = _cleaned(differences)
    above, below = (values > 0).sum(axis=-1), (values < 0).sum(axis=-1)
    return np.asarray(np.minimum(1.0, 2 * bdtr(np.minimum(above, below).astype(float), above + below, 0.5)))


def standardised(differences: ArrayLike) -> Floats:
    """Return g_z: mean / standard deviation of the differences, times Hedges' correction for few pairs."""
    values = _cleaned(differences)
    m = values.shape[-1] - 1
    correction = math.exp(gammaln(m / 2) - gammaln((m - 1) / 2)) / math.sqrt(m / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = correction * values.mean(axis=-1) / values.std(axis=-1, ddof=1)
    return np.asarray(np.where(np.isfinite(effect), effect, np.nan))


def detectable(spread: float, pairs: int, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """Return the smallest mean difference that a two-sided paired t test finds with this power; NaN below two pairs or
    without spread.

    Args:
        spread: Standard deviation of the differences.
        pairs: Number of pairs.
        alpha: Level of the test.
        power: How probable it is to find it.
    """
    if pairs < 2 or not math.isfinite(spread) or spread == 0:
        return math.nan
    critical = stdtrit(pairs - 1, 1 - alpha / 2)
    return float(nctdtrinc(pairs - 1, 1 - power, critical)) * spread / math.sqrt(pairs)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p adjusted for a family of tests, so that one false positive in it is as rare as the level (Holm 1979).

    NaN is no test: it stays NaN and does not count.
    """
    return _adjusted(p_values, _holm)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return p adjusted so that, of what is called a finding, a share as small as the level is false (BH 1995).

    NaN is no test: it stays NaN and does not count.
    """
    return _adjusted(p_values, _benjamini_hochberg)


def _adjusted(p_values: Sequence[float], step: Callable[[Floats], Floats]) -> list[float]:
    values = np.asarray(p_values, dtype=np.float64)
    tested = np.flatnonzero(np.isfinite(values))
    order = tested[np.argsort(values[tested], kind="stable")]
    if len(order):
        values[order] = np.minimum(step(values[order]), 1.0)
    return [float(value) for value in values]


def _holm(ascending: Floats) -> Floats:
    return np.maximum.accumulate(ascending * np.arange(len(ascending), 0, -1))


def _benjamini_hochberg(ascending: Floats) -> Floats:
    count = len(ascending)
    return np.minimum.accumulate((ascending * count / np.arange(1, count + 1))[::-1])[::-1]


def _cleaned(differences: ArrayLike) -> Floats:
    values = np.asarray(differences, dtype=np.float64)
    return np.where(np.abs(values) < ROUNDING, 0.0, values)
