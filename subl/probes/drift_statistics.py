"""Shifts of activations and the directions that they are compared with, from arrays alone.

Shifts are differences of activations between two models, [layers, prompts, d]; a direction is a mean shift,
[layers, d].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from subl.probes.entanglement_statistics import NOTHING, Floats


def alignment(shifts: Floats, directions: Floats) -> Floats:
    """Return the cosine of mean shifts with directions: [layers]; NaN where one of them is nothing."""
    return cosine(shifts.mean(axis=1), directions)


def cosine(one: Floats, other: Floats) -> Floats:
    """Return cosines along the last axis; NaN where a vector is nothing."""
    size = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines: Floats = np.where(size > 0, (one * other).sum(axis=-1) / size, np.nan)
    return cosines


def projections(shifts: Floats, directions: Floats) -> Floats:
    """Return every prompt's shift along the direction as a share of its length: [layers, prompts].

    That is ⟨s, t⟩ / ⟨t, t⟩: 1 if the shift is the direction, whatever else it does at right angles to it; NaN where the
    direction is nothing.
    """
    return shares(np.einsum("lpd,ld->lp", shifts, directions), (directions**2).sum(axis=-1, keepdims=True))


def shares(parts: Floats, wholes: Floats) -> Floats:
    """Return parts / wholes; NaN where the whole is nothing."""
    known = np.broadcast_to(wholes > 0, np.broadcast_shapes(parts.shape, wholes.shape))
    divided: Floats = np.divide(parts, wholes, out=np.full(known.shape, np.nan), where=known)
    return divided


def over_blocks(values: Floats) -> Floats:
    """Return means over the last axis, [..., places], without NaN and the first place; NaN where nothing is left.

    The first place is the embeddings' output, which is no block. A teacher that is steered, or trained, in some blocks
    only moves nothing before them.
    """
    known = ~np.isnan(values[..., 1:])
    return shares(np.where(known, values[..., 1:], 0.0).sum(axis=-1), known.sum(axis=-1))


def bootstrap_alignment(
    shifts: Floats, teacher: Floats, *, resamples: int, rng: np.random.Generator, minus: Floats | None = None
) -> Floats:
    """Return the alignment with the teacher's mean shift in samples of prompts, drawn with replacement.

    Args:
        shifts: [layers, prompts, d].
        teacher: [layers, prompts, d], the teacher's on the same prompts.
        resamples: How many samples.
        rng: Draws them.
        minus: Other shifts whose alignment is subtracted, on the same prompts.

    Returns:
        [resamples, layers].
    """
    prompts = shifts.shape[1]
    weights = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples) / prompts
    others = {"shift": shifts} if minus is None else {"shift": shifts, "minus": minus}
    found = {
        name: np.column_stack([_resampled(s, t, weights) for s, t in zip(values, teacher, strict=True)])
        for name, values in others.items()
    }
    result: Floats = found["shift"] - found.get("minus", 0.0)
    return result


def _resampled(shift: Floats, teacher: Floats, weights: Floats) -> Floats:
    """Return one layer's cosines; inner products of weighted means come from those of the prompts."""

    def product(one: Floats, other: Floats) -> Floats:
        values: Floats = np.einsum("rp,pq,rq->r", weights, one @ other.T, weights, optimize=True)
        return values

    size = np.sqrt(np.maximum(product(shift, shift) * product(teacher, teacher), 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines: Floats = np.where(size > 0, product(shift, teacher) / size, np.nan)
    return cosines


def matched_cosines(
    shifts: Floats, activations: NDArray[np.floating], *, draws: int, rng: np.random.Generator
) -> Floats:
    """Return the cosines of mean shifts with random directions that vary as activations do.

    A direction is Σ_t w_t (x_t − x̄) with independent standard normal w: a normal vector whose covariance is n times
    that of the activations, without ever forming the covariance. All layers share the weights, as real directions share
    prompts, so that means over layers can be compared too.

    Args:
        shifts: Mean shifts, [shifts, layers, d].
        activations: [layers, tokens, d].
        draws: Random directions.
        rng: Draws the weights.

    Returns:
        [draws, shifts, layers].
    """
    weights = rng.standard_normal((draws, activations.shape[1]))
    found = np.empty((draws, len(shifts), len(activations)))
    for layer, values in enumerate(activations):
        centred = np.asarray(values, dtype=np.float64)
        centred = centred - centred.mean(axis=0)
        length = np.sqrt(np.maximum(((weights @ (centred @ centred.T)) * weights).sum(axis=1), 0))
        for i, shift in enumerate(shifts[:, layer]):
            size = length * np.linalg.norm(shift)
            with np.errstate(invalid="ignore", divide="ignore"):
                found[:, i, layer] = np.where(size > 0, weights @ (centred @ shift) / size, np.nan)
    return found


def beyond_chance(observed: float, null: Floats) -> float:
    """Return the share of random cosines that are as far from 0, the observed one counted; NaN without an observed."""
    if np.isnan(observed):
        return float("nan")
    return float((1 + (np.abs(null) >= abs(observed) - NOTHING).sum()) / (len(null) + 1))


def split_half(shifts: Floats, *, splits: int, rng: np.random.Generator) -> Floats:
    """Return the mean cosine between the mean shifts on two halves of the prompts: [layers]."""
    prompts = shifts.shape[1]
    half = prompts // 2
    orders = [rng.permutation(prompts) for _ in range(splits)]
    pairs = [(shifts[:, o[:half]].mean(axis=1), shifts[:, o[half : 2 * half]].mean(axis=1)) for o in orders]
    reliability: Floats = np.mean([cosine(one, other) for one, other in pairs], axis=0)
    return reliability
