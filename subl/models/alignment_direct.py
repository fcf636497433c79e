"""Carrying a teacher's map directly to the student's tokens; the alternative to chunks.

B = R·A·C. C spreads a teacher token's mass over the student tokens that share its text. R picks, for a student token,
teacher rows that see nothing beyond it. Averaging over overlapping tokens alone would break causality: a teacher token
that ends later has read later text, and tokens that share a span (byte fallback) leak even between equal ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from subl.models.alignment import Alignment
from subl.models.alignment_line import Token, common_line
from subl.models.alignment_maps import Keys, Padding, padded_rows
from subl.models.alignment_text import Rendered


@dataclass(frozen=True, slots=True)
class Projection:
    """How one sample's maps are carried.

    Attributes:
        rows: R, (student tokens, teacher tokens): rows sum to 1, or to 0 where no teacher row is causal.
        columns: C, (teacher tokens, student tokens): rows sum to 1.
        exact: Student tokens with a row that end where a teacher token ends, so that both have read the same text,
            (student tokens), boolean. Compare these.
    """

    rows: Tensor
    columns: Tensor
    exact: Tensor

    def carry(self, maps: Tensor) -> Tensor:
        """Return R·A·C for the teacher's maps (…, teacher tokens, teacher tokens)."""
        return self.rows.to(maps) @ maps @ self.columns.to(maps)


@dataclass(frozen=True, slots=True)
class DirectBatch:
    """The projections of a batch, for query rows that are exact and in the response; K is the student's tokens.

    Attributes:
        projection: R of the query rows, (batch, rows, teacher tokens).
        columns: C, (batch, teacher tokens, K).
        queries: The student token of each query row, (batch, rows).
        rows: Which query rows are real, (batch, rows), boolean.
        keys: Which student tokens count as keys, (batch, K), boolean.
    """

    projection: Tensor
    columns: Tensor
    queries: Tensor
    rows: Tensor
    keys: Tensor

    def to(self, device: torch.device | str) -> DirectBatch:
        """Return the batch on another device."""
        tensors = (self.projection, self.columns, self.queries, self.rows, self.keys)
        return DirectBatch(*(tensor.to(device) for tensor in tensors))

    def teacher(self, maps: Tensor) -> Tensor:
        """Carry the teacher's maps (batch, heads, tokens, tokens) to (batch, heads, rows, K)."""
        with torch.autocast(maps.device.type, enabled=False):  # it would multiply probabilities in 16 bits
            return self.projection.to(maps).unsqueeze(1) @ maps @ self.columns.to(maps).unsqueeze(1)

    def student(self, maps: Tensor) -> Tensor:
        """Select the query rows of the student's maps, or of their logarithms: (batch, heads, rows, K)."""
        return maps.gather(2, self.queries[:, None, :, None].expand(-1, maps.shape[1], -1, maps.shape[3]))


def project(teacher: Rendered, student: Rendered, alignment: Alignment) -> Projection:
    """Return how to carry the teacher's maps to the student's tokens.

    Args:
        teacher: What the teacher reads.
        student: What the student reads.
        alignment: `align` of the two.

    Raises:
        DataError: They cannot be aligned.
    """
    if alignment.identity:
        eye = torch.eye(len(alignment), dtype=torch.float64)
        return Projection(eye, eye, torch.ones(len(alignment), dtype=torch.bool))
    (starts, stops), (own_starts, own_stops) = (_edges(line) for line in common_line(teacher, student))
    position = torch.arange(len(own_starts))
    overlap = (torch.minimum(stops[:, None], own_stops) - torch.maximum(starts[:, None], own_starts)).clamp_min(0)
    lost = overlap.sum(1) == 0
    # Text that the student does not have falls to its token before.
    before = ((own_stops <= starts[:, None]) * position).amax(1)
    columns = torch.where(lost[:, None], (position == before[:, None]).double(), overlap)
    columns = columns / columns.sum(1, keepdim=True)
    # A teacher row holds mass on every token before it too: hence the running maximum.
    reach = ((columns > 0) * position).amax(1).cummax(0).values
    causal = reach[:, None] <= position
    nearest = torch.arange(len(starts))[:, None] == causal.sum(0) - 1
    rows = causal & (overlap > 0)
    rows = torch.where(rows.any(0), rows, nearest).double().T
    rows = rows / rows.sum(1, keepdim=True).clamp_min(1)
    exact = torch.zeros(len(own_starts), dtype=torch.bool)
    exact[[end - 1 for end in alignment.student.ends]] = True
    return Projection(rows, columns, exact & causal.any(0))


def direct_batch(
    projections: Sequence[Projection],
    alignments: Sequence[Alignment],
    *,
    lengths: tuple[int, int],
    padding: tuple[Padding, Padding] = ("right", "right"),
    keys: Keys = "all",
) -> DirectBatch:
    """Collect projections into one batch.

    Args:
        projections: One per sample.
        alignments: The alignments they were made with.
        lengths: Tokens per row of the teacher's and of the student's batch.
        padding: Where the teacher's and the student's shorter samples are padded.
        keys: Which student tokens count as keys.
    """
    batch = len(projections)
    columns = torch.zeros(batch, *lengths, dtype=torch.float64)
    rows = torch.zeros(batch, lengths[1], lengths[0], dtype=torch.float64)
    wanted = torch.zeros(batch, lengths[1], dtype=torch.bool)
    queries: list[list[int]] = []
    for i, (projection, alignment) in enumerate(zip(projections, alignments, strict=True)):
        sizes = projection.columns.shape
        first, own = (n - size if pad == "left" else 0 for n, size, pad in zip(lengths, sizes, padding, strict=True))
        columns[i, first : first + sizes[0], own : own + sizes[1]] = projection.columns
        rows[i, own : own + sizes[1], first : first + sizes[0]] = projection.rows
        response = [alignment.kinds[chunk] == "response" for chunk in alignment.student.of_token]
        counted = {"all": [True] * sizes[1], "content": list(alignment.student.content), "response": response}[keys]
        wanted[i, own : own + sizes[1]] = torch.tensor(counted)
        asking = torch.tensor(response) & projection.exact
        queries.append((asking.nonzero().flatten() + own).tolist())
    chosen = padded_rows(queries)
    real = padded_rows([[1] * len(some) for some in queries]).bool()
    projection_rows = rows.take_along_dim(chosen.unsqueeze(-1), dim=1)
    return DirectBatch(projection_rows.float(), columns.float(), chosen, real, wanted)


def _edges(line: Sequence[Token]) -> tuple[Tensor, Tensor]:
    edges = torch.tensor([(token.start, token.stop) for token in line], dtype=torch.float64)
    return edges[:, 0], edges[:, 1]
