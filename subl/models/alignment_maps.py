"""Carrying attention maps and log-probabilities of a batch to the chunks of its alignments.

A map A (row = query) becomes R·A·C: columns of a chunk are summed (C), and a chunk's row is that of its last token, the
state that has read all of it (R; or the mean of its tokens' rows). Both go chunk by chunk, so rows stay distributions
and no query sees a later chunk. Squeeze first, carry afterwards: α belongs to the model that made the maps. Summing
columns can only shrink a KL divergence (data processing), so equal maps stay equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

from subl.models.alignment import Alignment, TokenChunks

Side = Literal["teacher", "student"]
Padding = Literal["left", "right"]

Keys = Literal["all", "content", "response"]
"""Keys that count: all; those with text that both sides share (for a one-sided system prompt); or the response's."""

RowMode = Literal["last", "mean"]
"""Whether a chunk's query row is its last token's, or the mean of its tokens'."""


@dataclass(frozen=True, slots=True)
class SideChunks:
    """One side of a batch.

    Only tokens of chunks that are query rows ask: attention maps are needed for those alone, R of them at most.

    Attributes:
        chunks: Each token's chunk, (batch, tokens); K for tokens that count nowhere: padding, and those of the template
            where only content counts.
        asking: Positions of the asking tokens, (batch, R), in order; 0 where a sample has fewer.
        asks: Which of those are real, (batch, R), boolean.
        rows: Each asking token's query row, (batch, R); the number of rows for tokens that count nowhere.
        last: The last asking token of each query row, (batch, rows).
    """

    chunks: Tensor
    asking: Tensor
    asks: Tensor
    rows: Tensor
    last: Tensor

    def to(self, device: torch.device | str) -> SideChunks:
        """Return the side on another device."""
        return SideChunks(
            *(tensor.to(device) for tensor in (self.chunks, self.asking, self.asks, self.rows, self.last))
        )


@dataclass(frozen=True, slots=True)
class ChunkBatch:
    """The alignments of a batch as index tensors; K is the largest number of chunks.

    Attributes:
        teacher: The teacher's tokens.
        student: The student's tokens.
        queries: Each query row's chunk, (batch, rows).
        rows: Which query rows are real, (batch, rows), boolean; the others fill shorter responses up.
        keys: Which chunks count as keys, (batch, K), boolean.
        identity: Whether token k is chunk k everywhere. `carry` then only selects rows, so that it also takes the
            `log_softmax` of scores.
    """

    teacher: SideChunks
    student: SideChunks
    queries: Tensor
    rows: Tensor
    keys: Tensor
    identity: bool

    def to(self, device: torch.device | str) -> ChunkBatch:
        """Return the batch on another device."""
        queries, rows, keys = (tensor.to(device) for tensor in (self.queries, self.rows, self.keys))
        return ChunkBatch(self.teacher.to(device), self.student.to(device), queries, rows, keys, self.identity)

    def side(self, side: Side) -> SideChunks:
        """Return one of the two sides."""
        return self.teacher if side == "teacher" else self.student


def chunk_batch(
    alignments: Sequence[Alignment],
    *,
    lengths: tuple[int, int],
    padding: tuple[Padding, Padding] = ("right", "right"),
    keys: Keys = "all",
    queries: Literal["response", "all"] = "response",
) -> ChunkBatch:
    """Collect alignments into index tensors, once per batch.

    Args:
        alignments: One per sample, truncated so that both sides fit.
        lengths: Tokens per row of the teacher's and of the student's batch.
        padding: Where the teacher's and the student's shorter samples are padded.
        keys: Which chunks count as keys.
        queries: Which chunks are query rows.
    """
    count = max(map(len, alignments))
    asking = [
        [chunk for chunk, kind in enumerate(alignment.kinds) if queries == "all" or kind == "response"]
        for alignment in alignments
    ]
    teacher, student = (
        _side([getattr(a, name) for a in alignments], asking, count, length, pad, content_only=keys != "all")
        for name, length, pad in zip(("teacher", "student"), lengths, padding, strict=True)
    )
    return ChunkBatch(
        teacher,
        student,
        queries=padded_rows(asking),
        rows=padded_rows([[1] * len(some) for some in asking]).bool(),
        keys=padded_rows([_wanted(alignment, keys) for alignment in alignments]).bool(),
        identity=all(alignment.identity for alignment in alignments)
        and all(
            pad == "right" or all(len(a) == n for a in alignments) for n, pad in zip(lengths, padding, strict=True)
        ),
    )


def asking_rows(maps: Tensor, batch: ChunkBatch, side: Side) -> Tensor:
    """Return the rows of whole maps, (batch, heads, tokens, keys), that `carry` takes: (batch, heads, R, keys)."""
    asking = batch.side(side).asking
    return maps.gather(2, asking[:, None, :, None].expand(-1, maps.shape[1], -1, maps.shape[3]))


def carry(maps: Tensor, batch: ChunkBatch, side: Side, *, rows: RowMode = "last") -> Tensor:
    """Carry one side's maps to the chunks: both sides' results can be compared entry by entry.

    Args:
        maps: (batch, heads, R, tokens), the rows of the side's asking tokens; rows and columns of padding may hold
            anything finite.
        batch: The alignments, on the maps' device.
        side: Whose maps they are.
        rows: What a chunk's row is.

    Returns:
        (batch, heads, rows, K), differentiable; `causal_keys(batch.queries, batch.keys)` says what of it counts.
    """
    own, count = batch.side(side), batch.keys.shape[1]
    if rows == "mean" and not batch.identity:
        chosen = _row_means(maps, own.rows, batch.rows.shape[1])
    else:
        chosen = maps.gather(2, own.last[:, None, :, None].expand(-1, maps.shape[1], -1, maps.shape[3]))
    if batch.identity:
        return chosen[..., :count]
    into = own.chunks[:, None, None].expand(-1, *chosen.shape[1:3], -1)
    return chosen.new_zeros(*chosen.shape[:3], count + 1).scatter_add(3, into, chosen)[..., :count]


def chunk_sums(values: Tensor, batch: ChunkBatch, side: Side) -> Tensor:
    """Sum one value per token over each chunk; of log-probabilities, that is the chunk's log-probability.

    Args:
        values: (batch, tokens); those of padding may hold anything.
        batch: The alignments, on the values' device.
        side: Whose tokens they are.

    Returns:
        (batch, K), differentiable.
    """
    own, count = batch.side(side), batch.keys.shape[1]
    return values.new_zeros(values.shape[0], count + 1).scatter_add(1, own.chunks, values)[:, :count]


def padded_rows(rows: Sequence[Sequence[int]]) -> Tensor:
    """Return rows of unequal length as one integer tensor, filled up with 0."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], dtype=torch.long)


def _row_means(maps: Tensor, rows: Tensor, count: int) -> Tensor:
    into = rows[:, None, :, None].expand_as(maps)
    sums = maps.new_zeros(*maps.shape[:2], count + 1, maps.shape[3]).scatter_add(2, into, maps)
    sizes = maps.new_zeros(maps.shape[0], count + 1).scatter_add(1, rows, torch.ones_like(rows, dtype=maps.dtype))
    return (sums / sizes.clamp_min(1)[:, None, :, None])[:, :, :count]


def _side(
    sides: Sequence[TokenChunks],
    asking: Sequence[Sequence[int]],
    count: int,
    length: int,
    padding: Padding,
    *,
    content_only: bool,
) -> SideChunks:
    count_rows = max(map(len, asking))
    chunks, tokens, rows, last = [], [], [], []
    for side, chosen in zip(sides, asking, strict=True):
        fill = length - side.ends[-1]
        before, after = (fill, 0) if padding == "left" else (0, fill)
        counted = [content or not content_only for content in side.content]
        own = [chunk if counts else count for chunk, counts in zip(side.of_token, counted, strict=True)]
        chunks.append([count] * before + own + [count] * after)
        spans = [range(side.ends[chunk - 1] if chunk else 0, side.ends[chunk]) for chunk in chosen]
        tokens.append([before + token for span in spans for token in span])
        rows.append([row if counted[token] else count_rows for row, span in enumerate(spans) for token in span])
        last.append([reached - 1 for reached in accumulate(map(len, spans))])
    asks = padded_rows([[1] * len(some) for some in tokens]).bool()
    return SideChunks(
        torch.tensor(chunks),
        padded_rows(tokens),
        asks,
        padded_rows(rows).masked_fill(~asks, count_rows),
        padded_rows(last),
    )


def _wanted(alignment: Alignment, keys: Keys) -> list[int]:
    if keys == "response":
        return [kind == "response" for kind in alignment.kinds]
    if keys == "all":
        return [1] * len(alignment)
    shared = [
        {chunk for chunk, content in zip(side.of_token, side.content, strict=True) if content}
        for side in (alignment.teacher, alignment.student)
    ]
    return [chunk in shared[0] and chunk in shared[1] for chunk in range(len(alignment))]
