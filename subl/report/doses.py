"""Dose and response: does more of something (updates, rows, intensity) give more lift?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subl.artifacts import Measure
from subl.report.runs import Run
from subl.report.statistics import mean_over_runs

WIDE = 8.0
"""Doses whose largest is at least so many times the smallest are judged per doubling."""


@dataclass(frozen=True, slots=True)
class DoseResponse:
    """One arm's lift over one swept number.

    Args:
        arm: The arm.
        path: What was swept, e.g. "inducer.updates".
        lifts: Seed → dose → lift over the control.
        slope: Mean least-squares slope over seeds, with its t interval.
        per: What the slope is per: "unit" or "doubling".
        trend: Two-sided p of Page's test for a monotone trend over seeds; NaN below three doses or two seeds.
        left_out: Seeds that lack a dose, and are left out of slope and trend.
    """

    arm: str
    path: str
    lifts: Mapping[str, Mapping[float, float]]
    slope: Measure
    per: str
    trend: float
    left_out: tuple[str, ...]

    @property
    def doses(self) -> list[float]:
        """All doses, ascending."""
        return sorted({dose for series in self.lifts.values() for dose in series})


def dose_responses(runs: Sequence[Run], metric: str, control: str) -> list[DoseResponse]:
    """Return one per arm and swept number; the lift is against the control's run at the same sweep point.

    Other swept values than the dose count as part of the seed: each of their combinations is a series.
    """
    swept = (item for run in runs for item in run.point.items() if item[0] not in run.seeds)
    paths = dict.fromkeys(path for path, value in swept if _number(value))
    references = {run.pair: run for run in runs if run.arm == control}
    found = []
    for path in paths:
        for arm in dict.fromkeys(run.arm for run in runs if run.arm != control):
            series: dict[str, dict[float, float]] = {}
            for run in runs:
                lift = run.lift_over(references.get(run.pair), metric)
                if run.arm == arm and path in run.point and math.isfinite(lift):
                    series.setdefault(run.without(path), {})[float(run.point[path])] = lift
            if len({dose for lifts in series.values() for dose in lifts}) > 1:
                found.append(respond(arm, path, series))
    return found


def respond(arm: str, path: str, lifts: Mapping[str, Mapping[float, float]]) -> DoseResponse:
    """Return slope and trend of seeds → dose → lift."""
    doses = sorted({dose for series in lifts.values() for dose in series})
    whole = {seed: series for seed, series in lifts.items() if len(series) == len(doses)}
    wide = doses[0] > 0 and doses[-1] / doses[0] >= WIDE
    x = np.log2(doses) if wide else np.asarray(doses, dtype=np.float64)
    table = np.array([[series[dose] for dose in doses] for series in whole.values()]).reshape(-1, len(doses))
    centred = x - x.mean()
    slopes = table @ centred / (centred @ centred)
    return DoseResponse(
        arm=arm,
        path=path,
        lifts=lifts,
        slope=mean_over_runs([float(slope) for slope in slopes], "seeds"),
        per="doubling" if wide else "unit",
        trend=_trend(table),
        left_out=tuple(seed for seed in lifts if seed not in whole),
    )


def _trend(table: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    """Return Page's two-sided p: seeds are blocks, doses are treatments (Page 1963)."""
    if table.shape[0] < 2 or table.shape[1] < 3:
        return math.nan
    from scipy.stats import page_trend_test

    up, down = (float(page_trend_test(values).pvalue) for values in (table, -table))
    return min(1.0, 2 * min(up, down))


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
