"""Statistics of number effects, from tables alone: rows are numbers, columns are targets.

Whatever is estimated here describes one model: the units are its numbers, not trained runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from subl.artifacts import Measure
from subl.probes.intervals import LEVEL

Floats: TypeAlias = NDArray[np.float64]
Positions: TypeAlias = NDArray[np.int64]

NOTHING = 1e-9
"""Variation below is rounding."""


@dataclass(frozen=True, slots=True)
class NumberSets:
    """Positions of the numbers that rise most, fall most and change least, the most extreme first."""

    hp: Positions
    lp: Positions
    unch: Positions

    def named(self) -> dict[str, Positions]:
        """Return the sets by name."""
        return {"HP": self.hp, "LP": self.lp, "UNCH": self.unch}


def number_sets(change: Floats, k: int) -> NumberSets:
    """Return the `k` numbers of each kind; no number is in two sets.

    Args:
        change: [numbers], what each number gained.
        k: Size of each set; there are at least 3·k numbers.
    """
    order = np.argsort(-change, kind="stable")
    middle = order[k : len(order) - k]
    return NumberSets(order[:k], order[::-1][:k], middle[np.argsort(np.abs(change[middle]), kind="stable")][:k])


def of_others(effects: Floats) -> Floats:
    """Return the mean of the other columns, for each column: [numbers, targets]."""
    means: Floats = (effects.sum(axis=1, keepdims=True) - effects) / (effects.shape[1] - 1)
    return means


def specific(effects: Floats) -> Floats:
    """Return each column minus the mean of the other columns: [numbers, targets]."""
    alone: Floats = effects - of_others(effects)
    return alone


def between_targets(effects: Floats) -> Floats:
    """Return the Spearman correlation of the number effects between targets: [targets, targets]."""
    standard = standardised(stats.rankdata(effects, axis=0))
    return standard.T @ standard


def mean_between(correlations: Floats) -> float:
    """Return the mean of a correlation matrix above its diagonal; NaN of a single target."""
    above = correlations[np.triu_indices(len(correlations), 1)]
    return float(above.mean()) if above.size else math.nan


@dataclass(frozen=True, slots=True)
class Correlation:
    """A Spearman correlation over numbers.

    Args:
        rho: The correlation; NaN where one side does not vary.
        p: Two-sided permutation p.
        low, high: 95 % interval by Fisher's z with the standard error of Bonett and Wright (2000), for ranks.
        n: Numbers.
    """

    rho: float
    p: float
    low: float
    high: float
    n: int

    def measure(self) -> Measure:
        """Return it as a measure."""
        return Measure(self.rho, self.low, self.high, self.n, f"95 % Fisher z over {self.n} numbers")


def correlate(
    one: Floats, other: Floats, *, permutations: int, rng: np.random.Generator, covariates: Sequence[Floats] = ()
) -> Correlation:
    """Return the (partial) Spearman correlation with its permutation p.

    Args:
        one: [numbers].
        other: [numbers].
        permutations: How often one side is shuffled.
        rng: Shuffles.
        covariates: What is held constant: its ranks are regressed out of both sides' ranks, and residuals are shuffled.
    """
    x, y = residuals(one, covariates), residuals(other, covariates)
    n = len(one)
    if not (x.any() and y.any()):
        return Correlation(math.nan, math.nan, math.nan, math.nan, n)
    rho = float(np.clip(x @ y, -1, 1))
    shuffled = np.array([x @ rng.permutation(y) for _ in range(permutations)])
    # The observed order is one of the permutations, so p is never 0.
    p = (1 + int((np.abs(shuffled) >= abs(rho) - NOTHING).sum())) / (permutations + 1)
    return Correlation(rho, p, *rank_interval(rho, n, held=len(covariates)), n)


def rank_interval(rho: float, n: int, *, held: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of a Spearman correlation: Fisher's z with Bonett and Wright's standard error.

    Args:
        rho: The correlation.
        n: Independent units.
        held: How many covariates are held constant.
    """
    room = n - 3 - held
    if room < 1 or not abs(rho) <= 1 - NOTHING:
        return rho, rho
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * math.sqrt((1 + rho**2 / 2) / room)
    z = math.atanh(rho)
    return math.tanh(z - half), math.tanh(z + half)


def matched(
    one: Floats, other: Floats, *, permutations: int, rng: np.random.Generator, covariates: Sequence[Sequence[Floats]]
) -> tuple[float, float]:
    """Return how much better a target's columns fit each other than another target's, and its permutation p.

    That is the mean partial Spearman correlation of a target's column in `one` with its column in `other`, minus that
    with other targets' columns; p is one-sided, from shuffling which column of `other` belongs to which target.

    Args:
        one: [numbers, targets].
        other: [numbers, targets].
        permutations: How often targets are shuffled.
        rng: Shuffles.
        covariates: For each target, what is held constant.
    """
    columns = range(one.shape[1])
    before, after = (np.column_stack([residuals(t[:, i], covariates[i]) for i in columns]) for t in (one, other))
    fits = before.T @ after
    size = len(fits)

    def advantage(order: Positions) -> float:
        own = fits[np.arange(size), order].sum()
        return float(own / size - (fits.sum() - own) / (size * (size - 1)))

    found = advantage(np.arange(size))
    null = np.array([advantage(rng.permutation(size)) for _ in range(permutations)])
    return found, (1 + int((null >= found - NOTHING).sum())) / (permutations + 1)


def percentiles(values: Floats, among: Floats) -> Floats:
    """Return which percentage of `among` each value exceeds; ties count half."""
    ordered = np.sort(among)
    below, upto = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    share: Floats = 100 * (below + upto) / (2 * len(ordered))
    return share


def set_percentile(values: Floats, among: Floats, *, draws: int, rng: np.random.Generator) -> float:
    """Return the percentile of the mean of `values` among means of equally many random members of `among`."""
    size = min(len(values), len(among))
    means = np.array([rng.choice(among, size, replace=False).mean() for _ in range(draws)])
    return float(percentiles(np.array([values.mean()]), means)[0])


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sets of numbers compared by one outcome.

    Args:
        outcome, one, other: What is compared.
        difference: Mean of one minus mean of the other.
        low, high: Welch's 95 % interval of it.
        delta: Cliff's delta in [-1, 1]: how much more often a number of one set lies above one of the other than below.
        g: Hedges' g, the difference in pooled standard deviations.
        p: Two-sided Mann–Whitney p.
        q: The same after Benjamini and Hochberg's correction over all comparisons made together.
    """

    outcome: str
    one: str
    other: str
    difference: float
    low: float
    high: float
    delta: float
    g: float
    p: float
    q: float


def compare(outcomes: Mapping[str, Mapping[str, Floats]]) -> list[Comparison]:
    """Compare every two sets by every outcome, and correct for the number of comparisons.

    Args:
        outcomes: Outcome → set → its numbers' values, at least two each.
    """
    found = [
        (outcome, one, other, sets[one], sets[other])
        for outcome, sets in outcomes.items()
        for one, other in combinations(sets, 2)
    ]
    tests = [stats.mannwhitneyu(a, b, alternative="two-sided") for _, _, _, a, b in found]
    q = corrected([float(test.pvalue) for test in tests])
    return [
        Comparison(
            outcome,
            one,
            other,
            *_welch(a, b),
            delta=2 * float(test.statistic) / (len(a) * len(b)) - 1,
            g=_hedges(a, b),
            p=float(test.pvalue),
            q=q[i],
        )
        for i, ((outcome, one, other, a, b), test) in enumerate(zip(found, tests, strict=True))
    ]


def corrected(p: Sequence[float]) -> list[float]:
    """Return the p values after Benjamini and Hochberg's correction; NaN stays and counts for nothing."""
    values = np.asarray(p, dtype=np.float64)
    known = ~np.isnan(values)
    if known.any():
        values[known] = stats.false_discovery_control(values[known])
    return [float(value) for value in values]


def difference(one: Floats, other: Floats, of: str) -> Measure:
    """Return mean(one) − mean(other) with Welch's 95 % interval; `of` names the units."""
    value, low, high = _welch(one, other)
    return Measure(value, low, high, len(one) + len(other), f"95 % Welch t over {len(one)} and {len(other)} {of}")


def _welch(one: Floats, other: Floats) -> tuple[float, float, float]:
    value = float(one.mean() - other.mean())
    if max(float(np.ptp(one)), float(np.ptp(other))) < NOTHING:
        return value, value, value
    interval = stats.ttest_ind(one, other, equal_var=False).confidence_interval(LEVEL)
    return value, float(interval.low), float(interval.high)


def _hedges(one: Floats, other: Floats) -> float:
    room = len(one) + len(other) - 2
    pooled = math.sqrt(((len(one) - 1) * one.var(ddof=1) + (len(other) - 1) * other.var(ddof=1)) / room)
    if pooled < NOTHING:
        return math.nan
    return float((one.mean() - other.mean()) / pooled) * (1 - 3 / (4 * room - 1))


def residuals(values: Floats, covariates: Sequence[Floats]) -> Floats:
    """Return the ranks of `values` without what the covariates' ranks explain, with mean 0 and length 1: [numbers]."""
    ranks: Floats = stats.rankdata(values)
    if covariates:
        design = np.column_stack([np.ones(len(ranks)), *(stats.rankdata(held) for held in covariates)])
        ranks = ranks - design @ np.linalg.lstsq(design, ranks, rcond=None)[0]
    return standardised(ranks)


def standardised(ranks: Floats, axis: int = 0) -> Floats:
    """Return ranks with mean 0 and length 1 along an axis; those without variation as zeros."""
    centred = ranks - ranks.mean(axis=axis, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=axis, keepdims=True))
    flat = length < NOTHING * ranks.shape[axis]
    result: Floats = np.where(flat, 0.0, centred / np.where(flat, 1.0, length))
    return result
