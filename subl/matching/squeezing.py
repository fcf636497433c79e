"""Squeezing-Heads Distillation: fewer attention maps that write nearly what the many wrote.

Source: arXiv 2502.07436, Eqs. 3-4 (attention as a sum of heads, value and output projection as one circuit), 6 (the
merged map), 9-10 (its coefficient) and Algorithm 1 (rounds of adjacent pairs).

Head i with the map A_i adds A_i X_i to the attention's output, X_i = V_i W_i, where W_i is its share of the output
projection. Squeezing replaces the maps of a group of heads by one convex combination Ã of them, applied to ΣX_i, such
that ΣA_i X_i changes least. Never with V in place of X: heads that share a key-value head share V, so that every
coefficient would be 1/2 and squeezing would silently be mean pooling.

    plan = plan_heads(32, 8, kv_heads=8)                     # once per pair of models
    gram = output_gram(attention.o_proj.weight, plan)        # once per layer
    squeezed = squeeze(maps, values, gram, row_weights=mask) # once per batch and layer
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from subl.matching.squeezing_fit import OutputGram, by_group, computing_dtype, fit, full_precision, output_gram
from subl.matching.squeezing_plan import HeadPlan, Merge, plan_heads

__all__ = [
    "HeadPlan",
    "Merge",
    "OutputGram",
    "Squeezed",
    "mix",
    "output_gram",
    "plan_heads",
    "reconstruction_error",
    "squeeze",
]


@dataclass(frozen=True, slots=True)
class Squeezed:
    """What `squeeze` returns; `rows` is `queries` where the weights differ by row (`per_row`), else 1.

    Attributes:
        maps: (batch, target, queries, keys). Every row is a convex combination of the given heads' rows.
        weights: Each given head's share in its squeezed map, (batch, heads, rows).
        coefficients: The clipped α of every merge, (batch, heads - target, rows): the j-th belongs to the j-th boundary
            between neighbouring heads that squeezing removes. None where heads are not merged pair by pair.
    """

    maps: Tensor
    weights: Tensor
    coefficients: Tensor | None

    def statistics(self, row_weights: Tensor | None = None) -> dict[str, Tensor]:
        """Return mean, standard deviation and clipped share of the coefficients, as 0-dimensional tensors.

        Args:
            row_weights: As given to `squeeze`; rows of weight 0 are left out where there is a coefficient per row.
        """
        if self.coefficients is None:
            return {}
        alpha = self.coefficients
        counted = torch.ones_like(alpha)
        if row_weights is not None and alpha.shape[-1] > 1:
            counted = (row_weights > 0)[:, None].expand_as(alpha).to(alpha.dtype)
        total = counted.sum()
        mean = (alpha * counted).sum() / total
        return {
            "alpha_mean": mean,
            "alpha_std": ((alpha - mean).square() * counted).sum().div(total).sqrt(),
            "alpha_clipped": (((alpha == 0) | (alpha == 1)) * counted).sum() / total,
        }


def squeeze(maps: Tensor, values: Tensor, gram: OutputGram, *, row_weights: Tensor | None = None) -> Squeezed:
    """Squeeze the attention maps of one layer, batched, without a host sync.

    The weights are fitted without gradient; given them, the squeezed maps are differentiable in `maps`, so that a
    student's maps may be squeezed too. Everything is computed in the dtype of `gram`. Maps stored in 16 bits have rows
    that miss 1 by up to 2e-3, which an attention sink amplifies in α, so their rows are made to sum to 1 again. Where
    torch may use TF32, α loses digits; the rows do not.

    Args:
        maps: Softmax maps, (batch, heads, queries, keys).
        values: (batch, kv_heads, keys, head_dim), before any repetition for grouped heads.
        gram: The layer's output projection.
        row_weights: Weight of each query row in the fit, (batch, queries); None counts all alike. Rows of weight 0
            (padding) may hold anything, NaN included; they are mixed like the others, or half and half per merge.
    """
    stored_in_16_bits = maps.element_size() == 2
    maps = maps.to(gram.dtype)
    if stored_in_16_bits:
        maps = maps / maps.sum(-1, keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)
    weights, coefficients = fit(maps.detach(), values.detach().to(gram.dtype), gram, row_weights)
    return Squeezed(mix(maps, weights, gram.plan), weights, coefficients)


def mix(maps: Tensor, weights: Tensor, plan: HeadPlan) -> Tensor:
    """Return Σ weights_i A_i over each group of heads: squeezing with given weights.

    Args:
        maps: (batch, heads, queries, keys).
        weights: (batch, heads, 1) or (batch, heads, queries), summing to 1 within each group.
        plan: The groups.

    Returns:
        (batch, target, queries, keys), differentiable in `maps`.
    """
    parts = []
    for run in plan.runs:
        members, shares = by_group(maps, run), by_group(weights, run).unsqueeze(-1)
        mixed = members[:, :, 0] if run.size == 1 else shares[:, :, 0] * members[:, :, 0]
        # One head after the other: all products at once would take another layer's maps of memory.
        for i in range(1, run.size):
            mixed = torch.addcmul(mixed, shares[:, :, i], members[:, :, i])
        parts.append(mixed)
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def reconstruction_error(
    maps: Tensor, squeezed: Tensor, values: Tensor, weight: Tensor, plan: HeadPlan, *, row_weights: Tensor | None = None
) -> Tensor:
    """Return ‖Σ(A_i - Ã_i) X_i‖² / ‖ΣA_i X_i‖² per sample: how much of the layer's output squeezing changes.

    A diagnostic; it forms outputs of full width. Rows of weight 0 must be finite.

    Args:
        maps: (batch, heads, queries, keys).
        squeezed: (batch, target, queries, keys).
        values: (batch, kv_heads, keys, head_dim).
        weight: The output projection in effect, (d_model, heads · head_dim).
        plan: The groups.
        row_weights: (batch, queries); None counts all rows alike.
    """
    dtype = computing_dtype(weight)
    values = values.to(dtype).repeat_interleave(plan.heads // plan.kv_heads, dim=1)
    sizes = torch.tensor(plan.sizes, device=maps.device)
    restored = squeezed.repeat_interleave(sizes, dim=1, output_size=plan.heads)

    def squared_norm(some: Tensor) -> Tensor:
        rows = ((some.to(dtype) @ values).transpose(1, 2).flatten(2) @ weight.to(dtype).mT).square().sum(-1)
        return (rows if row_weights is None else rows * row_weights).sum(-1)

    with full_precision(maps):
        return squared_norm(restored - maps) / squared_norm(maps)
