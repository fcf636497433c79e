"""Dose and response: does more of something (updates, rows, intensity, a teacher's strength) give more lift?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from subl.artifacts import Measure
from subl.report.runs import Run, by_arm_and_pair
from subl.report.statistics import mean_over_runs

Floats = NDArray[np.float64]

WIDE = 8.0
"""Doses whose largest is at least so many times the smallest are judged per doubling."""


@dataclass(frozen=True, slots=True)
class DoseResponse:
    """One arm's lift over one dose.

    Args:
        arm: The arm.
        path: What the doses are: what was swept, e.g. "inducer.updates", or what the teachers show.
        lifts: Seed → dose → lift over the control, or the arm in its place.
        measured: Whether each teacher was measured, so that seeds have doses of their own, instead of the swept number.
        slope: Mean least-squares slope over seeds, with its t interval.
        per: What the slope is per: "unit" or "doubling".
        trend: Two-sided p of Page's test for a monotone trend over seeds; NaN below three doses or two seeds.
        left_out: Seeds that lack a dose, and are left out of slope and trend.
    """

    arm: str
    path: str
    lifts: Mapping[str, Mapping[float, float]]
    measured: bool
    slope: Measure
    per: str
    trend: float
    left_out: tuple[str, ...]

    @property
    def doses(self) -> list[float]:
        """All doses, ascending."""
        return _doses(self.lifts)

    @property
    def means(self) -> list[tuple[float, float]]:
        """Dose and mean lift, ascending; of measured doses the mean of the seeds' lowest, of their next, and so on."""
        if not self.measured:
            each = {dose: [lifts[dose] for lifts in self.lifts.values() if dose in lifts] for dose in self.doses}
            return [(dose, math.fsum(lifts) / len(lifts)) for dose, lifts in each.items()]
        x, table = _whole({seed: series for seed, series in self.lifts.items() if seed not in self.left_out})
        return [(float(dose), float(lift)) for dose, lift in zip(x.mean(0), table.mean(0), strict=True)]


def dose_responses(runs: Sequence[Run], metric: str) -> list[DoseResponse]:
    """Return one per arm and swept number; the lift is over the reference's run at the same sweep point.

    Other swept values than the dose count as part of the seed: each of their combinations is a series.
    What is swept of the inducer, words such as "high" included, gives another one whose doses are the teachers' own
    values of the metric: nominally equal doses of two inducers, or of two targets, need not be equal.
    """
    paths = dict.fromkeys(path for run in runs for path in run.point if path not in run.seeds)
    partners = by_arm_and_pair(runs)
    arms = list(dict.fromkeys(run.arm for run in runs if run.reference))
    found = []
    for path in paths:
        for measured in (False, True) if path.startswith("inducer.") else (False,):
            label = f"teacher's {metric}, as {path} makes it" if measured else path
            for arm in arms:
                series: dict[str, dict[float, float]] = {}
                for run in runs:
                    dose = run.value("teacher", metric) if measured else _number(run.point.get(path))
                    lift = run.lift(partners, metric)
                    if run.arm == arm and path in run.point and math.isfinite(dose) and math.isfinite(lift):
                        series.setdefault(run.without(path), {})[dose] = lift
                if len(_doses(series)) > 1 and max(map(len, series.values())) > 1:
                    found.append(respond(arm, label, series, measured=measured))
    return found


def respond(arm: str, path: str, lifts: Mapping[str, Mapping[float, float]], *, measured: bool = False) -> DoseResponse:
    """Return slope and trend of seeds → dose → lift."""
    doses = _doses(lifts)
    count = max(map(len, lifts.values())) if measured else len(doses)
    whole = {seed: series for seed, series in lifts.items() if len(series) == count}
    wide = not measured and doses[0] > 0 and doses[-1] / doses[0] >= WIDE
    x, table = _whole(whole)
    x = np.log2(x) if wide else x
    centred = x - x.mean(1, keepdims=True)
    slopes = (table * centred).sum(1) / (centred**2).sum(1)
    return DoseResponse(
        arm=arm,
        path=path,
        lifts=lifts,
        measured=measured,
        slope=mean_over_runs([float(slope) for slope in slopes], "seeds"),
        per="doubling" if wide else "unit",
        trend=_trend(table),
        left_out=tuple(seed for seed in lifts if seed not in whole),
    )


def _doses(lifts: Mapping[str, Mapping[float, float]]) -> list[float]:
    return sorted({dose for series in lifts.values() for dose in series})


def _whole(lifts: Mapping[str, Mapping[float, float]]) -> tuple[Floats, Floats]:
    """Return doses, ascending, and lifts of series that are equally long, both [series, doses]."""
    ordered = np.array([sorted(series.items()) for series in lifts.values()], dtype=np.float64)
    length = ordered.shape[1] if ordered.ndim == 3 else 1  # no series at all
    ordered = ordered.reshape(-1, length, 2)
    return ordered[..., 0], ordered[..., 1]


def _trend(table: Floats) -> float:
    """Return Page's two-sided p: seeds are blocks, doses are treatments (Page 1963)."""
    if table.shape[0] < 2 or table.shape[1] < 3:
        return math.nan
    from scipy.stats import page_trend_test

    up, down = (float(page_trend_test(values).pvalue) for values in (table, -table))
    return min(1.0, 2 * min(up, down))


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
