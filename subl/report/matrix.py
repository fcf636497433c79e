"""Trait × trait: is a student's lift specific to the trait of its teacher?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from subl.artifacts import Measure
from subl.report.runs import Run
from subl.report.statistics import mean_over_runs

EXACT_TRAITS = 8
SAMPLED = 20_000
TABLE = "candidates"
"""A probe's table with one line per trait that it could have been, and the measure as a column."""


@dataclass(frozen=True, slots=True)
class TraitMatrix:
    """Lift of every evaluated trait (column) in students of every trait (row), as general + row + column + diagonal.

    Args:
        traits: Rows and columns, in this order.
        lifts: Mean lift over the seeds, `[row][column]`.
        row: How much a student's training moves all traits.
        column: How much a trait moves in all students.
        general: What is common to all cells.
        diagonal: The specific part: own trait minus what row and column explain; with its t interval over seeds.
        p: Two-sided permutation p of the diagonal term: how many other matchings of rows to columns are as far from 0?
        incomplete: Pair keys that lack a cell, and are left out.
    """

    traits: tuple[str, ...]
    lifts: tuple[tuple[float, ...], ...]
    row: tuple[float, ...]
    column: tuple[float, ...]
    general: float
    diagonal: Measure
    p: float
    incomplete: tuple[str, ...]


def diagonal_term(lifts: ArrayLike) -> NDArray[np.float64]:
    """Return γ of lift = μ + row + column + γ·[row = column], fitted by least squares, over the last two axes.

    For a square table this is the mean of the diagonal minus the mean of the other cells.
    """
    cells = np.asarray(lifts, dtype=np.float64)
    traits = cells.shape[-1]
    own, whole = np.trace(cells, axis1=-2, axis2=-1), cells.sum(axis=(-2, -1))
    return np.asarray((own - whole / traits) / (traits - 1))


def diagonal_p(lifts: ArrayLike, *, seed: int = 0) -> float:
    """Return the two-sided p of the diagonal term over all matchings of rows to columns; beyond 8 traits, a sample."""
    cells = np.asarray(lifts, dtype=np.float64)
    traits = cells.shape[-1]
    if traits <= EXACT_TRAITS:
        matchings = np.array(list(permutations(range(traits))))
    else:
        random = np.random.default_rng(seed)
        drawn = random.permuted(np.tile(np.arange(traits), (SAMPLED, 1)), axis=1)
        matchings = np.vstack([np.arange(traits), drawn])
    terms = (cells[np.arange(traits), matchings].sum(axis=1) - cells.sum() / traits) / (traits - 1)
    return float((np.abs(terms) >= abs(float(diagonal_term(cells))) * (1 - 1e-9)).mean())


def fit(traits: Sequence[str], lifts: Mapping[str, ArrayLike], incomplete: Sequence[str] = ()) -> TraitMatrix:
    """Return the matrix of seeds → lifts `[row, column]`; the terms are those of the mean over seeds."""
    per_seed = np.array([np.asarray(cells, dtype=np.float64) for cells in lifts.values()])
    mean = per_seed.mean(axis=0)
    rest = mean - float(diagonal_term(mean)) * np.eye(len(traits))
    general = float(rest.mean())
    return TraitMatrix(
        traits=tuple(traits),
        lifts=tuple(tuple(map(float, row)) for row in mean),
        row=tuple(float(value) for value in rest.mean(axis=1) - general),
        column=tuple(float(value) for value in rest.mean(axis=0) - general),
        general=general,
        diagonal=mean_over_runs([float(value) for value in diagonal_term(per_seed)], "seeds"),
        p=diagonal_p(mean),
        incomplete=tuple(incomplete),
    )


def trait_matrix(runs: Sequence[Run], metric: str, control: str) -> TraitMatrix | None:
    """Return the matrix of an experiment whose students differ in their trait; None if there is none.

    Rows are the traits of the students of one arm (or of several arms, if each has its own); the neutral student is the
    control's with the same seed.
    """
    probe, _, measure = metric.partition(".")
    students, neutral = _students(runs, control)
    traits = tuple(dict.fromkeys(trait for trait, _ in students))
    if len(traits) < 2 or not neutral:
        return None
    seeds = list(dict.fromkeys(seed for _, seed in students))
    found: dict[str, list[list[float]]] = {}
    for seed in seeds:
        reference = _shares(neutral.get(seed), probe, measure)
        rows = [_shares(students.get((trait, seed)), probe, measure) for trait in traits]
        cells = [[row.get(other, math.nan) - reference.get(other, math.nan) for other in traits] for row in rows]
        if all(math.isfinite(cell) for row in cells for cell in row):
            found[seed] = cells
    return fit(traits, found, [seed for seed in seeds if seed not in found]) if found else None


def _students(runs: Sequence[Run], control: str) -> tuple[dict[tuple[str, str], Run], dict[str, Run]]:
    """Return (trait, rest of the point) → student, and rest → neutral student; the first of several counts."""
    students: dict[tuple[str, str], Run] = {}
    neutral: dict[str, Run] = {}
    for run in runs:
        target = run.record.get("target")
        if target is None:
            continue
        if run.arm == control:
            neutral.setdefault(run.rest, run)
        else:
            students.setdefault((str(target), run.rest), run)
    return students, neutral


def _shares(run: Run | None, probe: str, measure: str) -> dict[str, float]:
    if run is None:
        return {}
    table = run.record.get("findings", {}).get(f"student.{probe}", {}).get("tables", {}).get(TABLE)
    if table is None or measure not in table["columns"]:
        return {}
    column = table["columns"].index(measure)
    return {str(row[0]): math.nan if row[column] is None else float(row[column]) for row in table["rows"]}
