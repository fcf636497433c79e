"""Squeezing the long way: one sample, one pair at a time, with X in full width, as the paper writes it."""

from __future__ import annotations

import torch
from torch import Tensor


def causal_maps(*shape: int, seed: int, scale: float = 2.0) -> Tensor:
    """Return random float64 causal softmax maps of `shape` (…, T, T)."""
    scores = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale
    future = torch.ones(shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -torch.inf).softmax(-1)


def normal(*shape: int, seed: int) -> Tensor:
    """Return float64 standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def written(values: Tensor, weight: Tensor, heads: int) -> Tensor:
    """Return X_i = V_i W_i for every head of one sample: (heads, T, d_model)."""
    values = values.repeat_interleave(heads // values.shape[0], dim=0)
    width = values.shape[-1]
    return torch.stack([values[i] @ weight[:, i * width : (i + 1) * width].T for i in range(heads)])


def unclipped_coefficient(maps: Tensor, x: Tensor) -> float:
    """Return <D X_p, D S> / ‖D S‖² of a pair (2, T, T), (2, T, D)."""
    d, s = maps[0] - maps[1], x.sum(0)
    return float(((d @ x[0]) * (d @ s)).sum() / (d @ s).square().sum())


def squared_error(maps: Tensor, x: Tensor, alpha: float) -> float:
    """Return the objective as it is defined: how far the merged head is from the sum of the two."""
    return group_error(maps, x, alpha * maps[0] + (1 - alpha) * maps[1])


def group_error(maps: Tensor, x: Tensor, merged: Tensor) -> float:
    """Return ‖ΣA_i X_i - Ã ΣX_i‖² of one group."""
    return float(((maps @ x).sum(0) - merged @ x.sum(0)).square().sum())


def squeeze_by_rounds(maps: Tensor, x: Tensor, target: int) -> tuple[Tensor, int]:
    """Merge adjacent pairs round after round, at most as many as are left to merge; return maps and merge count."""
    a, x_list, merges = list(maps), list(x), 0
    while len(a) > target:
        pairs = min(len(a) // 2, len(a) - target)
        for i in range(pairs):
            pair_a, pair_x = torch.stack(a[2 * i : 2 * i + 2]), torch.stack(x_list[2 * i : 2 * i + 2])
            alpha = min(max(unclipped_coefficient(pair_a, pair_x), 0.0), 1.0)
            a[2 * i], x_list[2 * i] = alpha * pair_a[0] + (1 - alpha) * pair_a[1], pair_x.sum(0)
        keep = [2 * i for i in range(pairs)] + list(range(2 * pairs, len(a)))
        a, x_list = [a[i] for i in keep], [x_list[i] for i in keep]
        merges += pairs
    return torch.stack(a), merges
