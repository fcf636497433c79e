"""How far a student's attention maps are from a teacher's: the loss of attention distillation.

Source: arXiv 2502.07436 (KL divergence between temperature-softened maps, response rows only). Computed in float32 at
least, whatever the maps are stored in.

A map row is compared over the keys that are *allowed*: the causal ones, or only those with shared text. On fewer keys
both sides are renormalised and the row counts with the teacher's mass on them: by the chain rule of the KL divergence
that is the part of the full divergence which these keys carry, so that a row whose attention sits on the sink at 97 %
does not become noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, xlogy
from torch.nn.functional import log_softmax

from subl.matching.loss_sum import LossSum

Divergence = Literal["forward_kl", "reverse_kl", "jsd", "mse"]
"""`forward_kl` is KL(teacher ‖ student), the paper's; `mse`, per allowed key, is its ablation."""

Reduction = Literal["row", "sample"]
"""`row`: every query row counts the same. `sample`: every sample does, however long its response."""

SMALLEST = 1e-12
"""Floor of a student's probability before its logarithm, where only probabilities are at hand."""


def causal_keys(queries: Tensor, keys: Tensor) -> Tensor:
    """Return which keys each query row may be compared on: those at or before it that are wanted.

    Args:
        queries: Each row's own position among the keys, (batch, rows).
        keys: Which keys are wanted, (batch, keys), boolean.

    Returns:
        (batch, 1, rows, keys), boolean.
    """
    positions = torch.arange(keys.shape[-1], device=keys.device)
    return ((positions <= queries[..., None]) & keys[:, None]).unsqueeze(1)


def log_map(maps: Tensor) -> Tensor:
    """Return the logarithm of a student's map that was carried to chunks, in float32 at least.

    Below 1e-12 the gradient is cut off; where scores are at hand (tokens need no carrying), pass their `log_softmax` to
    the loss instead, which has no such floor.
    """
    return _at_least_float32(maps).clamp_min(SMALLEST).log()


def soften(maps: Tensor, temperature: float) -> Tensor:
    """Return softmax(scores / τ) for maps = softmax(scores): p^(1/τ), renormalised; zeros stay zero."""
    if temperature == 1:
        return maps
    powers = maps ** (1 / temperature)
    return powers / powers.sum(-1, keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)


def row_divergence(
    teacher: Tensor,
    student_log: Tensor,
    *,
    allowed: Tensor,
    temperature: float = 1.0,
    divergence: Divergence = "forward_kl",
) -> Tensor:
    """Return the divergence of every query row, (batch, heads, rows), times τ² to keep the gradient's scale.

    Args:
        teacher: Squeezed maps, (batch, heads, rows, keys); no gradient. May hold anything where not allowed.
        student_log: Logarithms of the student's maps, of that shape; gradient reaches allowed entries only.
        allowed: Keys to compare a row on, broadcastable to that shape, boolean (see `causal_keys`). A row without any
            gives 0.
        temperature: τ. Maps are squeezed and carried first, softened last: α then belongs to what the teacher does.
        divergence: What to compute.
    """
    log_q = _at_least_float32(student_log)
    # A key outside the student's sliding window has no probability that could be learned.
    allowed = allowed & (log_q > torch.finfo(log_q.dtype).min / 4)
    teacher = _at_least_float32(teacher.detach()).masked_fill(~allowed, 0)
    mass = teacher.sum(-1)
    tiny = torch.finfo(teacher.dtype).tiny
    p = soften(teacher / mass.clamp_min(tiny)[..., None], temperature)
    # Not -∞: times a probability of 0 that is NaN, and so is its gradient.
    log_q = log_softmax((log_q / temperature).masked_fill(~allowed, torch.finfo(log_q.dtype).min), dim=-1)
    return _distance(p, log_q, allowed, divergence) * mass * temperature**2


def map_loss(
    teacher: Tensor,
    student_log: Tensor,
    *,
    rows: Tensor,
    allowed: Tensor,
    temperature: float = 1.0,
    divergence: Divergence = "forward_kl",
    reduction: Reduction = "row",
) -> LossSum:
    """Reduce `row_divergence` to the loss of one layer: mean over heads, sum over rows or over samples' means.

    Args:
        teacher: As there.
        student_log: As there.
        rows: Query rows that count, (batch, rows), boolean: those of the response, without padding. Others may hold
            anything, on both sides.
        allowed: As there.
        temperature: As there.
        divergence: As there.
        reduction: What counts once.
    """
    compared = allowed & rows[:, None, :, None]
    by_row = row_divergence(
        teacher, student_log, allowed=compared, temperature=temperature, divergence=divergence
    ).mean(1)
    counts = rows.sum(-1)
    if reduction == "row":
        return LossSum(by_row.sum(), counts.sum())
    return LossSum((by_row.sum(-1) / counts.clamp_min(1)).sum(), (counts > 0).sum())


def over_layers(losses: Sequence[LossSum], *, beta: float = 1.0) -> LossSum:
    """Return β times the mean over layers of one batch's losses."""
    return LossSum(beta * torch.stack([loss.total for loss in losses]).mean(), losses[0].count)


def head_costs(teacher: Tensor, student_log: Tensor, *, rows: Tensor, allowed: Tensor) -> Tensor:
    """Return the mean forward KL between every teacher and every student head, (teacher heads, student heads).

    Heads of two independently trained models are in no common order; the distiller may match them once, on calibration
    text, and keep the matching. Arguments as in `map_loss`.
    """
    compared = allowed & rows[:, None, :, None]
    sums = [
        row_divergence(head.unsqueeze(1).expand_as(student_log), student_log, allowed=compared).sum((0, 2))
        for head in teacher.unbind(1)
    ]
    return torch.stack(sums) / rows.sum().clamp_min(1)


def match_heads(costs: Tensor) -> tuple[int, ...]:
    """Return, for each student head, the teacher head of the cheapest one-to-one matching (Hungarian method).

    Our own option, not the paper's, which pairs squeezed and student heads by index.
    """
    teacher_heads, student_heads = linear_sum_assignment(costs.detach().double().cpu().numpy())
    return tuple(int(head) for head in teacher_heads[student_heads.argsort()])


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _distance(p: Tensor, log_q: Tensor, allowed: Tensor, divergence: Divergence) -> Tensor:
    if divergence == "forward_kl":
        return (xlogy(p, p) - p * log_q).sum(-1)
    q = log_q.exp()
    if divergence == "mse":
        return (p - q).square().sum(-1) / allowed.sum(-1).clamp_min(1)
    if divergence == "reverse_kl":
        return (q * (log_q - p.clamp_min(SMALLEST).log())).sum(-1)
    middle = ((p + q) / 2).clamp_min(SMALLEST).log()
    return ((xlogy(p, p) - p * middle) + q * (log_q - middle)).sum(-1) / 2
