"""How far a student's next-token distributions are from a teacher's on one vocabulary: the loss of logit distillation.

Sources: arXiv 1503.02531 (temperature, and its square as a factor), 2306.13649 (forward, reverse, generalised
Jensen-Shannon). Logits are compared in float32 at least: in 16 bits, rounding alone moves large ones by as much as what
is to be learned.

    carrier = torch.tensor(used_ids(examples, lm.chat.end_ids))
    heads = [Head(model.lm_head.weight).restricted(carrier) for model in (student, teacher)]
    by_position = hidden_divergence(student_states[rows], heads[0], teacher_states[rows], heads[1])
    loss = summed(by_position)                                   # total and count, for gradient accumulation
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import linear, log_softmax
from torch.utils.checkpoint import checkpoint

from subl.errors import ModelError
from subl.matching.loss_sum import LossSum
from subl.matching.squeezing_fit import computing_dtype, full_precision

Divergence = Literal["forward_kl", "reverse_kl", "jsd"]
"""KL(teacher ‖ student), KL(student ‖ teacher), or β KL(teacher ‖ m) + (1-β) KL(student ‖ m), m = β p + (1-β) q."""

LOWEST = -100.0
"""What the reverse KL, which is infinite there, takes for the log-probability of a token that the teacher masks."""

ALIVE = 2**26
"""Largest number of logits to hold at once per model: 262 positions of a vocabulary of 256k, 256 MiB in float32."""


@dataclass(frozen=True, slots=True)
class Head:
    """What turns a model's last hidden states into logits: softcap · tanh(scale · (W h + b) / softcap).

    Attributes:
        weight: W, (vocabulary, hidden), with whatever adapter it has merged in.
        bias: b, (vocabulary,).
        scale: A constant factor that some architectures have, such as 1 / `logits_scaling` of Granite.
        softcap: Bound of the logits, `final_logit_softcapping` of Gemma 2. None: no bound.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    def __len__(self) -> int:
        """Return the size of the vocabulary."""
        return self.weight.shape[0]

    def restricted(self, ids: Tensor) -> Head:
        """Return the head of a vocabulary of these ids only: it computes no other logits."""
        bias = None if self.bias is None else self.bias.index_select(0, ids)
        return Head(self.weight.index_select(0, ids), bias, self.scale, self.softcap)

    def first(self, count: int) -> Head:
        """Return the head of the first `count` tokens, as a view."""
        return Head(self.weight[:count], None if self.bias is None else self.bias[:count], self.scale, self.softcap)

    def copied(self, hidden: Tensor) -> bool:
        """Return whether `logits` needs a wider copy of the weights, which must not wait for the backward pass."""
        return self.weight.dtype != computing_dtype(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the logits, (..., vocabulary), in float32 at least, an autocast notwithstanding."""
        dtype = computing_dtype(hidden)
        with full_precision(hidden):
            bias = None if self.bias is None else self.bias.to(dtype)
            logits = linear(hidden.to(dtype), self.weight.to(dtype), bias) * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def restricted(logits: Tensor, ids: Tensor) -> Tensor:
    """Return the logits of a vocabulary of these ids only; a softmax of them is renormalised."""
    return logits.index_select(-1, ids)


def logit_divergence(
    student: Tensor,
    teacher: Tensor,
    *,
    divergence: Divergence = "forward_kl",
    beta: float = 0.5,
    temperature: float = 1.0,
) -> Tensor:
    """Return the divergence at every position, (...), times τ² to keep the gradient's scale.

    Args:
        student: Logits, (..., vocabulary). The forward KL is infinite where they are -∞ and the teacher's are not.
        teacher: Logits of that shape; no gradient. -∞ where the teacher masks a token (see `LOWEST`).
        divergence: What to compute.
        beta: β of `jsd`, between 0 and 1, both exclusive: its limits are 0, not the two KL divergences.
        temperature: τ.

    Raises:
        ValueError: β does not make a mixture.
    """
    dtype = computing_dtype(student)
    teacher_logits = teacher.detach().to(dtype) / temperature
    p = teacher_logits.softmax(-1)
    # Not -∞: times a probability of 0 that is NaN, and so is its gradient.
    log_p = log_softmax(teacher_logits, dim=-1).clamp_min(LOWEST)
    log_q = log_softmax(student.to(dtype) / temperature, dim=-1)
    if divergence == "forward_kl":
        # Where p is 0 the term is 0, whatever the student does there.
        return (p * (log_p - log_q).masked_fill(p == 0, 0)).sum(-1) * temperature**2
    log_q = log_q.clamp_min(torch.finfo(dtype).min)
    q = log_q.exp()
    if divergence == "reverse_kl":
        return (q * (log_q - log_p)).sum(-1) * temperature**2
    if not 0 < beta < 1:
        raise ValueError(f"beta of the Jensen-Shannon divergence must lie between 0 and 1, not {beta}")
    middle = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    return (beta * p * (log_p - middle) + (1 - beta) * q * (log_q - middle)).sum(-1) * temperature**2


def hidden_divergence(
    student: Tensor,
    student_head: Head,
    teacher: Tensor,
    teacher_head: Head,
    *,
    divergence: Divergence = "forward_kl",
    beta: float = 0.5,
    temperature: float = 1.0,
) -> Tensor:
    """Return `logit_divergence` from last hidden states, without ever holding the logits of all positions.

    The gradient reaches the student's hidden states and head. Many logits go through TRL's kernel, which works in
    float32 and wants finite ones; without it, and in float64, chunks of positions are computed again in backward.

    Args:
        student: (positions, hidden).
        student_head: Its head.
        teacher: (positions, the teacher's hidden); no gradient.
        teacher_head: Its head.
        divergence: As there.
        beta: As there.
        temperature: As there.

    Raises:
        ModelError: The heads have different vocabularies.
    """
    if len(student_head) != len(teacher_head):
        raise ModelError(
            f"the student's head has {len(student_head)} tokens and the teacher's {len(teacher_head)}: logits can only "
            "be compared on one vocabulary; restrict both to the carrier's tokens, or distil across tokenizers"
        )
    many = student.shape[0] * len(student_head) > ALIVE
    if many and _kernel() is not None and torch.float64 not in (student.dtype, teacher.dtype):
        weight = {"forward_kl": 0.0, "reverse_kl": 1.0, "jsd": beta}[divergence]
        return _fused(student, student_head, teacher, teacher_head, weight, temperature)

    def chunk(states: Tensor, teacher_states: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = teacher_head.logits(teacher_states)
        own = student_head.logits(states)
        return logit_divergence(own, wanted, divergence=divergence, beta=beta, temperature=temperature)

    return by_positions(chunk, student, teacher, width=len(student_head), again=student_head.copied(student))


def token_log_probs(hidden: Tensor, head: Head, tokens: Tensor, *, ids: Tensor | None = None) -> Tensor:
    """Return the log-probability of one token per position, (positions,), chunk by chunk.

    Args:
        hidden: The states that predict the tokens, (positions, hidden).
        head: Their whole head.
        tokens: (positions,).
        ids: Sorted ids of a vocabulary to renormalise on; a token that is not among them gives NaN.
    """
    if ids is not None:
        head = head.restricted(ids)
        index = torch.searchsorted(ids, tokens).clamp_max(len(ids) - 1)
        known, tokens = ids[index] == tokens, index

    def chunk(states: Tensor, chosen: Tensor) -> Tensor:
        return log_softmax(head.logits(states), dim=-1).gather(-1, chosen[:, None]).squeeze(-1)

    values = by_positions(chunk, hidden, tokens, width=len(head), again=head.copied(hidden))
    return values if ids is None else values.where(known, torch.nan)


def by_positions(loss: Callable[..., Tensor], *tensors: Tensor, width: int, again: bool = False) -> Tensor:
    """Return `loss` of chunks of positions, put together; more than one are computed again in backward.

    Args:
        loss: From chunks of the tensors to one value per position; what it closes over gets its gradient too.
        tensors: (positions, ...) each.
        width: How many numbers `loss` holds per position: the size of the vocabulary.
        again: Compute a single chunk again too, because what it makes on the way is large.
    """
    chunks = list(zip(*(position_chunks(tensor, width=width) for tensor in tensors), strict=True))
    if len(chunks) == 1 and not again:
        return loss(*tensors)
    return torch.cat([checkpoint(loss, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks])


def position_chunks(tensor: Tensor, *, width: int) -> tuple[Tensor, ...]:
    """Return a tensor's positions in chunks that can hold `width` numbers per position at once."""
    return torch.split(tensor, max(1, ALIVE // width))


def summed(values: Tensor, counted: Tensor | None = None) -> LossSum:
    """Return the sum over positions and their number.

    Args:
        values: One per position.
        counted: Which of them count, boolean, of that shape; None: all.
    """
    if counted is None:
        return LossSum(values.sum(), torch.tensor(values.numel(), device=values.device))
    return LossSum(values.masked_fill(~counted, 0).sum(), counted.sum())


@cache
def _kernel() -> Any:
    """Return TRL's fused function; None in versions that do not have it, where it is no public promise."""
    try:
        from trl.kernels.chunked_divergence import ChunkedDivergenceFunction
    except ImportError:
        return None
    return ChunkedDivergenceFunction


def _fused(student: Tensor, own: Head, teacher: Tensor, other: Head, weight: float, temperature: float) -> Tensor:
    states = (student, own.weight, own.bias, teacher, other.weight, other.bias)
    caps = (own.scale, own.softcap, other.scale, other.softcap)
    values: Tensor = _kernel().apply(*states, weight, temperature, *caps)[0]
    return values * temperature**2
