"""Variants of matrix rows and their widest directions, from arrays alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from subl.probes.entanglement_statistics import Floats

CHUNK = 8192
"""Rows in float64 at once; a large vocabulary would fill the memory."""
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


def principal_axes(rows: Floats, count: int = 2) -> tuple[Floats, Floats]:
    """Return the rows' places on their own widest directions, (n, count), and the share of variance of each."""
    centred = rows - rows.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    share: Floats = sizes**2 / (sizes**2).sum()
    places: Floats = left[:, :count] * sizes[:count]
    return places, share[:count]
