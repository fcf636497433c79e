"""Fitting the weights of a squeeze to what the heads write, without forming it.

Head i writes A_i X_i, X_i = V_i W_i. Every inner product that a solution needs is <E X_i, E' X_j> for differences E, E'
of maps, and with F = E V it is the sum over rows of F_i (W_i W_jᵀ) F'_jᵀ: the middle is as small as a head and known
before any text is read. Exact for grouped, multi-query and full attention; no tensor is as wide as the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from subl.errors import ModelError
from subl.matching.squeezing_plan import HeadPlan, Merge, Pair, Run, halving
from subl.matching.squeezing_solutions import pair_coefficient, simplex_weights

_ROUNDINGS = 4.0
"""A row of differences within this many roundings of its values is no difference."""


class PairGram(NamedTuple):
    """W Wᵀ of a merge's left side with itself, left with right, right with itself, each (groups, width, width)."""

    left: Tensor
    cross: Tensor
    right: Tensor


class JointGram(NamedTuple):
    """W Wᵀ of a group's sum with itself, (groups, m·d, m·d), and of each head with that sum, (groups, k, d, m·d)."""

    total: Tensor
    own: Tensor


@dataclass(frozen=True, slots=True)
class RunGram:
    """What fitting a run needs: its key-value heads, (groups · m), and the forms of its merges or the joint one."""

    kv_heads: Tensor
    pairs: tuple[PairGram, ...]
    joint: JointGram | None


@dataclass(frozen=True, slots=True)
class OutputGram:
    """A layer's output projection as far as squeezing needs it; one entry per run, None where nothing is fitted."""

    plan: HeadPlan
    dtype: torch.dtype
    runs: tuple[RunGram | None, ...]


def output_gram(weight: Tensor, plan: HeadPlan) -> OutputGram:
    """Prepare a layer's output projection for `squeeze`; once per layer.

    Args:
        weight: The projection in effect (adapter merged in, dequantized), (d_model, heads · head_dim). Its device is
            where squeezing happens; float64 is kept, anything else is computed in float32.
        plan: Which heads are merged, and how.

    Raises:
        ModelError: The weight does not divide among the plan's heads.
    """
    if weight.ndim != 2 or weight.shape[1] % plan.heads:
        raise ModelError(
            f"an output projection of shape {tuple(weight.shape)} does not divide among {plan.heads} heads; "
            "pass the weight of o_proj, dequantized if the model is quantized"
        )
    dtype = computing_dtype(weight)
    writes = torch.unflatten(weight.detach().to(dtype), 1, (plan.heads, -1)).permute(1, 2, 0)
    with full_precision(weight):
        return OutputGram(plan, dtype, tuple(_run_gram(by_group(writes, run, dim=0), run, plan) for run in plan.runs))


def computing_dtype(tensor: Tensor) -> torch.dtype:
    """Return float64 for float64, else float32."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def full_precision(tensor: Tensor) -> torch.autocast:
    """Keep an autocast of the training loop, which would multiply in 16 bits, out of a block."""
    return torch.autocast(tensor.device.type, enabled=False)


def by_group(tensor: Tensor, run: Run, dim: int = 1) -> Tensor:
    """View a run's heads along `dim` as (groups, heads per group)."""
    return torch.unflatten(tensor.narrow(dim, run.start, run.groups * run.size), dim, (run.groups, run.size))


@torch.no_grad()
def fit(maps: Tensor, values: Tensor, gram: OutputGram, row_weights: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return the heads' weights and the merges' coefficients; arguments and results are those of `squeeze`."""
    parts = []
    with full_precision(maps):
        for run, run_gram in zip(gram.plan.runs, gram.runs, strict=True):
            parts.append(_fit_run(maps, values, run, run_gram, gram.plan.merge, row_weights))
    coefficients = [alpha.flatten(1, 2) for _, alpha in parts if alpha is not None]
    weights = torch.cat([weight.flatten(1, 2) for weight, _ in parts], dim=1)
    return weights, torch.cat(coefficients, dim=1) if coefficients else None


def _fit_run(
    maps: Tensor, values: Tensor, run: Run, gram: RunGram | None, merge: Merge, row_weights: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return weights (batch, groups, k, rows) and, of pairs, coefficients (batch, groups, k - 1, rows)."""
    if gram is None:
        return _constant_weights(maps, run, merge), None
    features, noise = _features(maps, values, run, gram)
    if gram.joint is not None:
        return _joint_weights(features, noise, run, gram.joint, row_weights), None
    return _pair_weights(features, noise, run, gram.pairs, row_weights, per_row=merge == "per_row")


def _run_gram(writes: Tensor, run: Run, plan: HeadPlan) -> RunGram | None:
    if run.size == 1 or plan.merge in ("mean", "first"):
        return None
    starts = torch.tensor(run.kv_starts, device=writes.device)
    kv_heads = (starts[:, None] + torch.arange(run.source_count, device=writes.device)).flatten()
    if plan.merge == "joint":
        total = _summed(writes, run, 0, run.size)
        return RunGram(kv_heads, (), JointGram(total @ total.mT, writes @ total.mT.unsqueeze(1)))
    return RunGram(kv_heads, tuple(_pair_gram(writes, run, pair) for pair in halving(run.size)), None)


def _pair_gram(writes: Tensor, run: Run, pair: Pair) -> PairGram:
    left, right = _summed(writes, run, pair.start, pair.middle), _summed(writes, run, pair.middle, pair.stop)
    return PairGram(left @ left.mT, left @ right.mT, right @ right.mT)


def _summed(writes: Tensor, run: Run, start: int, stop: int) -> Tensor:
    """Sum heads [start, stop) of (groups, k, d, d_model) by key-value head: (groups, m·d, d_model)."""
    read = run.sources[start:stop]
    by_source = [[start + i for i, source in enumerate(read) if source == wanted] for wanted in sorted(set(read))]
    return torch.cat([writes[:, heads].sum(1) for heads in by_source], dim=1)


def _features(maps: Tensor, values: Tensor, run: Run, run_gram: RunGram) -> tuple[Tensor, Tensor]:
    """Return A_i V for every key-value head of the group, (batch, groups, k, queries, m, d), and its squared noise.

    One matrix product over views: neither differences of maps nor anything else of the maps' size is made.
    """
    sources = torch.unflatten(values.index_select(1, run_gram.kv_heads), 1, (run.groups, run.source_count))
    sources = sources.transpose(2, 3).flatten(3)
    features = by_group(maps, run).flatten(2, 3) @ sources
    noise = (_ROUNDINGS * torch.finfo(maps.dtype).eps) ** 2 * sources.square().sum((-2, -1))
    return features.view(*features.shape[:2], run.size, -1, run.source_count, values.shape[-1]), noise


def _pair_weights(
    features: Tensor, noise: Tensor, run: Run, grams: tuple[PairGram, ...], row_weights: Tensor | None, *, per_row: bool
) -> tuple[Tensor, Tensor]:
    """Merge in rounds.

    A merged map is a mixture of maps, so its features are the same mixture of theirs: later rounds need no maps.
    """
    merged = list(features.unbind(2))
    rows = features.shape[3] if per_row else 1
    weights = features.new_ones(*features.shape[:3], rows)
    coefficients = features.new_empty(*features.shape[:2], run.size - 1, rows)
    for pair, gram in zip(halving(run.size), grams, strict=True):
        left, right = merged[pair.start], merged[pair.middle]
        forms = _forms(left - right, noise, run, pair, gram)
        left_norm, cross, right_norm = (_over_rows(form, row_weights, per_row=per_row) for form in forms)
        alpha = pair_coefficient(left_norm, cross, right_norm).clamp(0, 1)
        coefficients[:, :, pair.middle - 1] = alpha
        weights[:, :, pair.start : pair.middle] *= alpha.unsqueeze(2)
        weights[:, :, pair.middle : pair.stop] *= 1 - alpha.unsqueeze(2)
        merged[pair.start] = torch.lerp(right, left, alpha[..., None, None])
    return weights, coefficients


def _forms(difference: Tensor, noise: Tensor, run: Run, pair: Pair, gram: PairGram) -> tuple[Tensor, Tensor, Tensor]:
    """Return ‖D X_p‖², <D X_p, D X_q> and ‖D X_q‖² row by row, (batch, groups, queries) each."""
    difference = _denoised(difference, noise[:, :, None])
    left = difference[..., run.source_slice(pair.start, pair.middle), :].flatten(-2)
    right = difference[..., run.source_slice(pair.middle, pair.stop), :].flatten(-2)
    return _form(left, gram.left, left), _form(left, gram.cross, right), _form(right, gram.right, right)


def _denoised(difference: Tensor, noise: Tensor) -> Tensor:
    """Set rows (…, queries, m, d) that rounding alone may have made to zero, so that equal maps count as equal."""
    return difference.masked_fill((difference.square().sum((-2, -1)) <= noise)[..., None, None], 0)


def _form(left: Tensor, gram: Tensor, right: Tensor) -> Tensor:
    return (torch.einsum("bgtx,gxy->bgty", left, gram) * right).sum(-1)


def _joint_weights(features: Tensor, noise: Tensor, run: Run, gram: JointGram, row_weights: Tensor | None) -> Tensor:
    """Solve all heads of each group at once.

    On the simplex ΣA_i X_i - Σw_i A_i S equals ΣC_i X_i - Σw_i C_i S, S = ΣX_i, for centred maps C_i = A_i - mean A:
    the part that all heads share, often nearly all of it, does not enter the inner products.
    """
    centred = _denoised(features - features.mean(2, keepdim=True), noise[:, :, None, None])
    weighted = centred
    if row_weights is not None:
        rows = row_weights[:, None, None, :, None, None]
        centred = centred.masked_fill(rows <= 0, 0)
        weighted = centred * rows
    own = torch.stack([centred[:, :, i, :, source] for i, source in enumerate(run.sources)], dim=2)
    inner = torch.einsum("bgitx,gxy,bgjty->bgij", weighted.flatten(-2), gram.total, centred.flatten(-2))
    written = torch.einsum("bgjty,gjyx->bgtx", own, gram.own)
    target = torch.einsum("bgitx,bgtx->bgi", weighted.flatten(-2), written)
    return simplex_weights(inner, target).unsqueeze(-1)


def _constant_weights(maps: Tensor, run: Run, merge: Merge) -> Tensor:
    rows = maps.shape[2] if merge == "per_row" else 1
    shape = (maps.shape[0], run.groups, run.size, rows)
    if merge != "first":
        return maps.new_full(shape, 1 / run.size)
    weights = maps.new_zeros(shape)
    weights[:, :, 0] = 1
    return weights


def _over_rows(form: Tensor, row_weights: Tensor | None, *, per_row: bool) -> Tensor:
    if row_weights is not None:
        # Not a product alone: rows of padding may hold NaN.
        form = torch.where(row_weights[:, None] > 0, form * row_weights[:, None], 0)
    return form if per_row else form.sum(-1, keepdim=True)
