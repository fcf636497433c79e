"""Logit distillation between two vocabularies: chunk likelihoods (ALM), and sorted probabilities (ULD) as a baseline.

ALM (arXiv 2503.20083) compares how likely each side finds every chunk of the shared text; which token is which plays no
role. ULD (arXiv 2402.12030) compares next-token distributions after sorting them, which forgets which token is which.

    chunks = chunk_batch(alignments, lengths=...)
    student, teacher = (chunk_sums(log_probs[side], chunks, side) for side in ("student", "teacher"))
    loss = alm_loss(student, teacher, response_chunks)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from subl.matching.logit_loss import summed
from subl.matching.loss_sum import LossSum
from subl.matching.squeezing_fit import computing_dtype

SURE = 1e-6
"""Taken off every ℓ / τ, on both sides, as the paper's own code does: a certain chunk has no finite gradient."""


def alm(student: Tensor, teacher: Tensor, *, temperature: float = 100.0) -> Tensor:
    """Return each chunk's binary cross-entropy of x = exp(ℓ / τ) minus its minimum: 0 where both are equally likely.

    For large τ it approaches ((ℓ_T - ℓ_S) + ℓ_T log(ℓ_S / ℓ_T)) / τ, which compares log-probabilities instead of
    probabilities.

    Args:
        student: ℓ_S, log-probabilities of chunks, of any shape.
        teacher: ℓ_T, of that shape; no gradient.
        temperature: τ.
    """
    dtype = computing_dtype(student)
    wanted = _scaled(teacher.detach().to(dtype), temperature)
    own = _scaled(student.to(dtype), temperature)
    return wanted.exp() * (wanted - own) - torch.expm1(wanted) * (log1mexp(wanted) - log1mexp(own))


def alm_loss(student: Tensor, teacher: Tensor, counted: Tensor, *, temperature: float = 100.0) -> LossSum:
    """Return the sum of `alm` over chunks and their number.

    Args:
        student: (batch, chunks).
        teacher: (batch, chunks).
        counted: Which chunks count, (batch, chunks), boolean; others may hold anything.
        temperature: As there.
    """
    certain = [side.masked_fill(~counted, 0) for side in (student, teacher)]
    return summed(alm(*certain, temperature=temperature), counted)


def log1mexp(values: Tensor) -> Tensor:
    """Return log(1 - exp(x)) for x < 0, exact for small and for large |x| (Mächler 2012), and so is its gradient."""
    near = values > -math.log(2)
    # Far from 0 the other branch is taken; near 0 its gradient would be NaN, so it gets a harmless argument there.
    far = torch.log1p(-torch.exp(values.where(~near, -1)))
    return torch.where(near, torch.log(-torch.expm1(values)), far)


def uld(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the L1 distance of sorted probabilities at every position, (...): at most 2.

    Args:
        student: Logits, (..., vocabulary).
        teacher: Logits of the paired positions, (..., the teacher's vocabulary); no gradient. The smaller vocabulary is
            filled up with probabilities of 0.
    """
    dtype = computing_dtype(student)
    p, q = (logits.to(dtype).softmax(-1).sort(dim=-1, descending=True).values for logits in (teacher.detach(), student))
    width = max(p.shape[-1], q.shape[-1])
    p, q = (pad(side, (0, width - side.shape[-1])) for side in (p, q))
    return (p - q).abs().sum(-1)


def _scaled(log_probs: Tensor, temperature: float) -> Tensor:
    # Not -∞: times a probability of 0 that is NaN.
    return (log_probs.clamp_max(0) / temperature - SURE).clamp_min(torch.finfo(log_probs.dtype).min)
