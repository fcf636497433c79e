"""Normalisation layers as linear maps: exact at one point, which lets a sum be attributed to its terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from subl.errors import ModelError

LARGE = 1e3
"""Size of the vectors that find out what a norm does; large, so that its ε does not count."""
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4}
"""Relative error of what is computed in float32; norms compute in float32 whatever they are given."""
HALF = 0.05
"""Relative error of what is computed in half precision."""


def tolerance(dtype: torch.dtype) -> float:
    """Return the relative error below which two results in `dtype` count as equal."""
    return TOLERANCE.get(dtype, HALF)


@dataclass(frozen=True, slots=True)
class Linearised:
    """A norm frozen at given vectors r: N(r) = gain · c(r) / scale + bias, where c subtracts the mean or does nothing.

    With the scale held fixed this is linear, so that N(r) − bias is the sum of what every term of r becomes. Known as
    direct attribution with a frozen LayerNorm (Elhage et al. 2021, "A Mathematical Framework for Transformer
    Circuits").

    Args:
        gain: (d).
        bias: (d).
        centred: Whether means are subtracted (LayerNorm) or not (RMSNorm).
        scale: (rows), one for every vector r.
    """

    gain: Tensor
    bias: Tensor
    centred: bool
    scale: Tensor

    def apply(self, terms: Tensor) -> Tensor:
        """Return what terms of the vectors r become: (rows, …, d) → (rows, …, d)."""
        scale = self.scale.view(-1, *[1] * (terms.dim() - 1))
        return self.gain * self._centre(terms, -1) / scale

    def pull(self, directions: Tensor) -> Tensor:
        """Return directions p with p · term / scale = direction · apply(term): (d, m) → (d, m)."""
        return self._centre(self.gain[:, None] * directions, 0)

    def _centre(self, values: Tensor, along: int) -> Tensor:
        return values - values.mean(along, keepdim=True) if self.centred else values


@torch.no_grad()
def linearised(norm: Callable[[Tensor], Tensor], at: Tensor) -> Linearised:
    """Find out what a norm does by asking it: gain, bias, centring, and the scale at every vector.

    Args:
        norm: Any layer of the form gain · c(r) / scale(r) + bias; the identity is one.
        at: The vectors r, (rows, d).

    Raises:
        ModelError: It is of another form.
    """
    dtype = torch.promote_types(at.dtype, torch.float32)
    signs = torch.ones(at.shape[-1], dtype=at.dtype, device=at.device)
    signs[1::2] = -1
    up, down, shifted, there = (norm(x).to(dtype) for x in (LARGE * signs, -LARGE * signs, LARGE * (signs + 1), at))
    gain, bias = (up - down) / (2 * signs.to(dtype)), (up + down) / 2
    slack = tolerance(at.dtype)
    centred = bool((shifted - up).abs().max() <= slack * up.abs().max())
    whole = Linearised(gain, bias, centred, torch.ones(len(at), dtype=dtype, device=at.device)).apply(at.to(dtype))
    scale = whole.square().sum(-1) / (whole * (there - bias)).sum(-1)
    found = Linearised(gain, bias, centred, scale)
    if not (found.apply(at.to(dtype)) + bias - there).abs().max() <= slack * there.abs().max():
        raise ModelError(
            "a norm of this model is none of the form gain · vector / scale + bias (LayerNorm, RMSNorm), so no sum can "
            "be attributed to its terms; use another architecture"
        )
    return found
