"""Similarities of matrix rows and their permutation null, from arrays alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from subl.probes.entanglement_statistics import NOTHING, Floats, Positions

CHUNK = 8192
"""Rows in float64 at once; a large vocabulary would fill the memory."""
CELLS = 2**24
"""Weights of random sets in memory at once."""
FLOOR = 1e-6
"""Directions with less variance than this share of the widest are no part of a whitened space."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean (d) and covariance (d, d) of all rows of a matrix."""

    mean: Floats
    covariance: Floats

    @classmethod
    def of(cls, rows: NDArray[np.floating]) -> Moments:
        """Return those of (rows, d), in float64, part by part; the covariance is divided by the number of rows."""
        parts = [slice(start, start + CHUNK) for start in range(0, len(rows), CHUNK)]
        mean: Floats = np.sum([rows[part].sum(axis=0, dtype=np.float64) for part in parts], axis=0) / len(rows)
        covariance = np.zeros((rows.shape[1], rows.shape[1]))
        for part in parts:
            centred = rows[part] - mean
            covariance += centred.T @ centred
        return cls(mean, covariance / len(rows))

    def whitening(self) -> Floats:
        """Return W, (d, d) and symmetric, so that (row − mean) @ W has covariance 1 wherever the rows vary (ZCA)."""
        values, vectors = np.linalg.eigh(self.covariance)
        wide = values > FLOOR * values[-1]
        scaled = vectors[:, wide] / np.sqrt(values[wide])
        matrix: Floats = scaled @ vectors[:, wide].T
        return matrix


def variants(rows: Floats, moments: Moments) -> dict[str, Floats]:
    """Return rows as they are, minus the vocabulary's mean, and whitened: (n, d) each."""
    centred = rows - moments.mean
    return {"raw": rows, "centred": centred, "whitened": centred @ moments.whitening()}


def dots(rows: Floats, others: Floats) -> Floats:
    """Return the dot products of (n, d) with (m, d): (n, m)."""
    products: Floats = rows @ others.T
    return products


def cosines(rows: Floats, others: Floats) -> Floats:
    """Return the cosines of (n, d) with (m, d): (n, m); 0 for a row of nothing."""
    return dots(_unit(rows), _unit(others))


def principal_axes(rows: Floats, count: int = 2) -> tuple[Floats, Floats]:
    """Return the rows' places on their own widest directions, (n, count), and the share of variance of each."""
    centred = rows - rows.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    share: Floats = sizes**2 / (sizes**2).sum()
    places: Floats = left[:, :count] * sizes[:count]
    return places, share[:count]


def contrast(members: Positions, count: int) -> Floats:
    """Return weights whose sum with values is the mean of `members` minus the mean of all others: (count)."""
    weights = np.full(count, -1 / (count - len(members)))
    weights[members] = 1 / len(members)
    return weights


def random_contrasts(size: int, count: int, *, draws: int, rng: np.random.Generator) -> Floats:
    """Return the `contrast` of `draws` random sets of a size: (draws, count)."""
    members = np.argpartition(rng.random((draws, count)), size, axis=1)[:, :size]
    weights = np.full((draws, count), -1 / (count - size))
    np.put_along_axis(weights, members, 1 / size, axis=1)
    return weights


def random_differences(values: Floats, size: int, *, draws: int, rng: np.random.Generator) -> Floats:
    """Return what `draws` random sets of a size have more than the others in columns of values: (draws, columns)."""
    count = len(values)
    most = max(1, CELLS // count)
    parts = [min(most, draws - start) for start in range(0, draws, most)]
    return np.concatenate([random_contrasts(size, count, draws=part, rng=rng) @ values for part in parts])


def permutation_p(observed: Floats, null: Floats) -> Floats:
    """Return two-sided p values: (statistics) against (draws, statistics).

    The observed set is one of the possible ones, so p is never 0.
    """
    scale = np.abs(null).max(axis=0, initial=0)
    extreme = (np.abs(null) >= np.abs(observed) - NOTHING * scale).sum(axis=0)
    p: Floats = (1 + extreme) / (len(null) + 1)
    return p


def _unit(rows: Floats) -> Floats:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = rows / np.where(length > 0, length, 1)
    return unit
