"""The weights that squeeze heads with least error, from inner products alone."""

from __future__ import annotations

import torch
from torch import Tensor

_CANCELLED = 64.0
"""A squared norm of at most this many roundings of its terms is nothing but cancellation."""

_RIDGE = 64.0
"""Weight, in roundings of the Gram matrix's trace, of the pull towards equal weights."""


def pair_coefficient(left: Tensor, cross: Tensor, right: Tensor) -> Tensor:
    """Return the coefficient that merges two heads with least error, before clipping.

    Head p with map A_p writes A_p X_p, head q writes A_q X_q. The merged head, with the map α A_p + (1 - α) A_q over
    X_p + X_q, misses their sum by D(X_p - α(X_p + X_q)), D = A_p - A_q. Its squared norm is a convex quadratic in α, so
    clipping the minimum to [0, 1] gives the constrained minimum.

    Args:
        left: ‖D X_p‖², any shape.
        cross: <D X_p, D X_q>.
        right: ‖D X_q‖².

    Returns:
        α, of the inputs' shape; 1/2 where D(X_p + X_q) vanishes, since every α gives the same error there.
    """
    curvature = left + 2 * cross + right
    flat = curvature <= _CANCELLED * torch.finfo(curvature.dtype).eps * (left + right)
    return torch.where(flat, 0.5, (left + cross) / torch.where(flat, 1.0, curvature))


def simplex_weights(gram: Tensor, target: Tensor) -> Tensor:
    """Minimise w·M·w - 2 b·w over the simplex, exactly and without a host sync.

    Every support has a closed-form minimum under Σw = 1; the best of those without a negative weight is the solution.
    A ridge just above rounding decides between equal solutions for equal weights.

    Args:
        gram: M, positive semi-definite, (..., k, k), k small: 2^k - 1 supports are visited.
        target: b, (..., k).

    Returns:
        w, (..., k): non-negative, sum 1.
    """
    size = target.shape[-1]
    finfo = torch.finfo(gram.dtype)
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    scale = trace.clamp_min(finfo.tiny)
    ridge = torch.where(trace > 0, _RIDGE * finfo.eps, 1.0)
    identity = torch.eye(size, dtype=gram.dtype, device=gram.device)
    gram = gram / scale[..., None, None] + ridge[..., None, None] * identity
    target = (target / scale[..., None]).unsqueeze(-2)
    bits = torch.arange(size, device=gram.device)
    inside = (torch.arange(1, 2**size, device=gram.device)[:, None] >> bits) % 2 == 1
    system = torch.where(inside[:, :, None] & inside[:, None, :], gram.unsqueeze(-3), identity)
    sides = torch.stack((target, torch.ones_like(target)), dim=-1) * inside[..., None]
    free, slope = torch.linalg.solve_ex(system, sides).result.unbind(-1)
    weights = free + slope * ((1 - free.sum(-1)) / slope.sum(-1))[..., None]
    cost = (torch.einsum("...si,...ij->...sj", weights, gram) - 2 * target).mul(weights).sum(-1)
    cost = torch.where((weights >= 0).all(-1), cost, torch.inf)
    best: Tensor = weights.take_along_dim(cost.argmin(-1)[..., None, None], dim=-2).squeeze(-2)
    return best / best.sum(-1, keepdim=True)
