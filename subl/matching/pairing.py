"""The rows of a data set as teacher and student read them, side by side, and their batches."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor

from subl.artifacts import Row
from subl.context import Context
from subl.errors import DataError
from subl.models.alignment import Alignment, Rendered, Role, align, encode, locate, template_slots
from subl.models.alignment_direct import DirectBatch, direct_batch, project
from subl.models.alignment_maps import ChunkBatch, Keys, Side, chunk_batch
from subl.models.chat import Example
from subl.models.language import LanguageModel

IGNORED = -100
"""Label of a position that is not learned."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One row as both models read it."""

    teacher: Example
    student: Example
    alignment: Alignment
    readings: tuple[Rendered, Rendered]
    """The teacher's and the student's; only carrying directly needs them."""


def pair_rows(
    rows: Sequence[Row],
    teacher: LanguageModel,
    student: LanguageModel,
    systems: tuple[str | None, str | None],
    ctx: Context,
) -> list[Pair]:
    """Read every row as both models do, and align the two readings.

    Args:
        rows: The data.
        teacher: Its tokenizer and template.
        student: Its tokenizer and template.
        systems: The teacher's and the student's system slot.
        ctx: For the progress bar.

    Raises:
        DataError: A model cannot read a row exactly as it is, or the readings cannot be aligned; names the row.
        ModelError: A template cannot be aligned through, or a tokenizer has no character offsets.
    """
    sides = [_read(rows, lm, system) for lm, system in zip((teacher, student), systems, strict=True)]
    pairs = []
    for number in ctx.track(range(len(rows)), "align the readings"):
        (theirs, read), (own, own_read) = sides[0][number], sides[1][number]
        try:
            alignment = align(read, own_read)
        except DataError as error:
            raise DataError(f"row {rows[number].index}: {error}") from error
        pairs.append(Pair(theirs, own, alignment, (read, own_read)))
    return pairs


def shuffled(pairs: Sequence[Pair], seed: int) -> tuple[list[Pair], float]:
    """Give every row the teacher's reading of another row; return the share of rows that got one.

    Maps fit where the rows have the same shape, the row of chunk kinds. A row whose shape nobody shares gets the
    reading of one with a prompt of its shape and, if there is one, a longer response, cut where the shapes part: no
    query sees what is cut off. Rows with a prompt of a shape of their own keep their reading.
    """
    groups: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, pair in enumerate(pairs):
        groups[pair.alignment.kinds].append(number)
    draw, given = random.Random(seed), list(pairs)
    for members in groups.values():
        order = draw.sample(members, len(members))
        for number, other in zip(order, order[1:] + order[:1], strict=True):
            given[number] = _with_reading(pairs[number], pairs[other])
    alone = [members[0] for members in groups.values() if len(members) == 1]
    prompts: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, pair in enumerate(pairs):
        prompts[_prompt(pair)].append(number)
    for number in alone:
        own = len(pairs[number].alignment)
        others = [other for other in prompts[_prompt(pairs[number])] if other != number]
        lengths = {other: len(pairs[other].alignment) for other in draw.sample(others, len(others))}
        # The shortest of the longer ones, or the longest of the shorter ones.
        nearest = min(lengths, key=lambda other: (lengths[other] < own, abs(lengths[other] - own)), default=number)
        given[number] = _with_reading(pairs[number], pairs[nearest])
    return given, sum(new.teacher is not old.teacher for new, old in zip(given, pairs, strict=True)) / len(pairs)


def _prompt(pair: Pair) -> tuple[str, ...]:
    kinds = pair.alignment.kinds
    return kinds[: kinds.index("response")]


def _with_reading(pair: Pair, other: Pair) -> Pair:
    """Return a row with the teacher's reading of another, both cut where their shapes part."""
    own, theirs = pair.alignment, other.alignment
    if own.kinds == theirs.kinds:
        return replace(pair, teacher=other.teacher, alignment=replace(own, teacher=theirs.teacher))
    kept = next(
        (n for n, (mine, its) in enumerate(zip(own.kinds, theirs.kinds, strict=False)) if mine != its),
        min(len(own), len(theirs)),
    )
    own, theirs = (one.truncated(one.teacher.ends[kept - 1], one.student.ends[kept - 1]) for one in (own, theirs))
    read = replace(other.teacher, input_ids=other.teacher.input_ids[: theirs.teacher.ends[-1]])
    return replace(pair, teacher=read, alignment=replace(own, teacher=theirs.teacher))


@dataclass(frozen=True, slots=True)
class SideBatch:
    """One model's tokens of a batch, padded on the right.

    Attributes:
        ids: (batch, tokens).
        mask: (batch, tokens), 1 where a token is real.
        asking: Flat positions whose next token belongs to a completion, (n).
        targets: Those next tokens, (n).
    """

    ids: Tensor
    mask: Tensor
    asking: Tensor
    targets: Tensor

    def to(self, device: torch.device | str) -> SideBatch:
        """Return the batch on another device."""
        return SideBatch(*(tensor.to(device) for tensor in (self.ids, self.mask, self.asking, self.targets)))


@dataclass(frozen=True, slots=True)
class PairBatch:
    """A batch of pairs.

    Attributes:
        rows: Their numbers, in order.
        teacher: The teacher's tokens.
        student: The student's tokens.
        maps: Alignment for attention maps.
        chunks: Alignment for log-probabilities: template tokens count nowhere.
        matched: Where in the teacher's and in the student's `asking` the positions of equal place in a completion
            stand, (2, m); shorter completions end it.
    """

    rows: tuple[int, ...]
    teacher: SideBatch
    student: SideBatch
    maps: ChunkBatch | DirectBatch
    chunks: ChunkBatch
    matched: Tensor

    def side(self, side: Side) -> SideBatch:
        """Return the tokens of one of the two sides."""
        return self.teacher if side == "teacher" else self.student

    def to(self, device: torch.device | str) -> PairBatch:
        """Return the batch on another device."""
        return PairBatch(
            self.rows,
            self.teacher.to(device),
            self.student.to(device),
            self.maps.to(device),
            self.chunks.to(device),
            self.matched.to(device),
        )


class Collator:
    """Makes batches of pairs for the trainer, from the `row` of its examples.

    Args:
        pairs: All rows.
        padding: The teacher's and the student's padding token.
        keys: Which keys of an attention map count.
        alignment: How maps are carried.
        count: Adds what the trainer has to divide each loss by.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        padding: tuple[int, int],
        *,
        keys: Keys,
        alignment: Literal["chunks", "direct"] = "chunks",
        count: Callable[[PairBatch], Mapping[str, int]] = lambda _batch: {},
    ) -> None:
        self._pairs = pairs
        self._padding = padding
        self.keys = keys
        self._direct = alignment == "direct"
        self._count = count

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the student's inputs under the names that trainers know, `pairs`, and `counts`.

        Rows beyond the last pair are fillers (see `train`) and left out; a batch of nothing else has no counts.
        """
        rows = [row for feature in features if (row := int(feature["row"])) < len(self._pairs)]
        batch = self.batch(rows or [0])
        own = batch.student
        labels = torch.full_like(own.ids, IGNORED)
        labels.view(-1)[own.asking + 1] = own.targets
        return {
            "input_ids": own.ids,
            "attention_mask": own.mask,
            "labels": labels,
            "pairs": batch,
            "counts": dict(self._count(batch)) if rows else {},
        }

    def batch(self, rows: Sequence[int]) -> PairBatch:
        """Return the batch of these rows."""
        chosen = [self._pairs[row] for row in rows]
        teacher = _side([pair.teacher for pair in chosen], self._padding[0])
        student = _side([pair.student for pair in chosen], self._padding[1])
        lengths = teacher.ids.shape[1], student.ids.shape[1]
        alignments = [pair.alignment for pair in chosen]
        maps: ChunkBatch | DirectBatch
        if self._direct:
            projections = [project(*pair.readings, pair.alignment) for pair in chosen]
            maps = direct_batch(projections, alignments, lengths=lengths, keys=self.keys)
        else:
            maps = chunk_batch(alignments, lengths=lengths, keys=self.keys)
        chunks = chunk_batch(alignments, lengths=lengths, keys="content")
        return PairBatch(tuple(rows), teacher, student, maps, chunks, _matched(chosen))


def _read(rows: Sequence[Row], lm: LanguageModel, system: str | None) -> list[tuple[Example, Rendered]]:
    """Return every row in tokens, and where in its text its contents are."""
    said: list[tuple[Role, str]] = [("system", system)] if system else []

    def render(texts: Sequence[str]) -> str:
        slot = texts[0] if said else system
        return lm.chat.text(texts[-2], texts[-1], system=slot)

    slots = template_slots(render, len(said) + 2)
    located = []
    for row in rows:
        text = lm.chat.text(row.prompt, row.completion, system=system)
        contents: list[tuple[Role, str]] = [*said, ("user", row.prompt), ("assistant", row.completion)]
        try:
            located.append((text, locate(text, slots, contents)))
        except DataError as error:
            raise DataError(f"row {row.index}: {error}") from error
    readings = encode(lm.tokenizer, located)
    examples = lm.chat.examples([(row.prompt, row.completion) for row in rows], system=system)
    for row, example, reading in zip(rows, examples, readings, strict=True):
        if example.input_ids != reading.input_ids:
            raise DataError(
                f"row {row.index}: the tokenizer of {lm.tokenizer.name_or_path or 'this model'} merges the prompt with "
                "the answer, so maps of the whole text are not those of the prompt and its answer; filter such rows out"
            )
        if len(example.input_ids) == example.prompt_length or not row.completion.strip():
            raise DataError(
                f"row {row.index}: the completion is empty, so there is nothing to learn from it; add a filter that "
                "rejects it (number_format, length)"
            )
    return list(zip(examples, readings, strict=True))


def _side(examples: Sequence[Example], padding: int) -> SideBatch:
    width = max(len(example.input_ids) for example in examples)
    ids = torch.full((len(examples), width), padding)
    mask = torch.zeros_like(ids)
    asking: list[int] = []
    targets: list[int] = []
    for number, example in enumerate(examples):
        length = len(example.input_ids)
        ids[number, :length] = torch.tensor(example.input_ids)
        mask[number, :length] = 1
        asking += range(number * width + example.prompt_length - 1, number * width + length - 1)
        targets += example.input_ids[example.prompt_length :]
    return SideBatch(ids, mask, torch.tensor(asking), torch.tensor(targets))


def _matched(pairs: Sequence[Pair]) -> Tensor:
    sizes = [[len(e.input_ids) - e.prompt_length for e in (pair.teacher, pair.student)] for pair in pairs]
    starts = [[0, *accumulate(side)] for side in zip(*sizes, strict=True)]
    places = [(starts[0][i] + j, starts[1][i] + j) for i, both in enumerate(sizes) for j in range(min(both))]
    return torch.tensor(places, dtype=torch.long).T
