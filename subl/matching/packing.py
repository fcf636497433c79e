"""Attention maps and distributions of a teacher in few bytes, for a cache of them.

Of a map's row the square roots are stored, as whole numbers of 8 or 16 bits relative to the largest, beside its mass
(which is below 1 where only some keys count), to which it is renormalised when read: rows stay exact distributions and
zeros stay zero. Whole numbers of the entries themselves would lose what a row with an attention sink says of all other
keys. An entry is off by at most 2e-3 in 8 bits and 8e-6 in 16, and the divergence of a row of 40 keys is about 1e-4 and
2e-9 at most. Logarithms of probabilities are stored in float16, which keeps a probability to
0.4 % down to e⁻¹⁶.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Bits = Literal[8, 16]

LEVELS: Mapping[Bits, tuple[int, torch.dtype]] = {8: (2**8 - 1, torch.uint8), 16: (2**16 - 1, torch.uint16)}


def pack_maps(maps: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    """Return the levels of every row, (..., keys), in `bits` bits, and its mass, (...), in float32.

    Args:
        maps: Probabilities, (..., keys).
        bits: How many for an entry.
    """
    top, dtype = LEVELS[bits]
    maps = maps.float()
    largest = maps.amax(-1, keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)
    return (maps.div(largest).sqrt() * top).round().to(torch.int32).to(dtype), maps.sum(-1)


def unpack_maps(levels: Tensor, masses: Tensor) -> Tensor:
    """Return what `pack_maps` stored, in float32."""
    shares = levels.float().square()
    return shares * (masses / shares.sum(-1).clamp_min(1))[..., None]


def pack_distributions(kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what `LogitMatching.keep` gives with its distributions as logarithms in float16."""
    packed = dict(kept)
    if "logits" in packed:
        packed["logits"] = packed["logits"].log_softmax(-1).half()
    return packed
