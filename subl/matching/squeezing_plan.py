"""Which heads a squeeze merges, decided from head counts alone; light, so that a recipe can be checked with it.

Squeezing-Heads Distillation (arXiv 2502.07436) halves adjacent heads in rounds and carries an odd last head over.
Rounds of full halving overshoot most head counts (25 → 13 → 7 for a student of 12), so the last round here merges only
as many pairs as are left to merge, the first ones. Every squeezed head is then a run of adjacent heads, its *group*,
and the rounds inside a group are those of halving that group alone: merge modes differ only in how they weigh a group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Literal, NamedTuple

from subl.errors import ModelError

Merge = Literal["progressive", "per_row", "joint", "mean", "first"]
"""How the heads of one group are weighed.

`progressive`: adjacent pairs in rounds, each with its closed-form coefficient (the paper). `per_row`: the same with one
coefficient per query row. `joint`: all heads of a group at once, the exact optimum over the simplex. `mean` (constant
weights) and `first` (hard selection) are the paper's ablations.
"""

JOINT_LIMIT = 8
"""Heads that one `joint` group may hold: its solution visits 2^k - 1 supports."""


class Pair(NamedTuple):
    """One merge inside a group: heads [start, middle) with heads [middle, stop), counted from the group's first."""

    start: int
    middle: int
    stop: int


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring groups of one shape, which are solved together.

    Attributes:
        start: The first head of the first group.
        size: Heads per group.
        sources: For each head of a group, its key-value head, counted from the group's first key-value head.
        kv_starts: Each group's first key-value head.
    """

    start: int
    size: int
    sources: tuple[int, ...]
    kv_starts: tuple[int, ...]

    @property
    def groups(self) -> int:
        """Return the number of groups, one squeezed head each."""
        return len(self.kv_starts)

    @property
    def heads(self) -> slice:
        """Return the heads that the run covers."""
        return slice(self.start, self.start + self.size * self.groups)

    @property
    def source_count(self) -> int:
        """Return the number of key-value heads behind each group."""
        return self.sources[-1] + 1

    def source_slice(self, start: int, stop: int) -> slice:
        """Return the group's key-value heads that its heads [start, stop) read."""
        return slice(self.sources[start], self.sources[stop - 1] + 1)


@dataclass(frozen=True)
class HeadPlan:
    """Everything about a squeeze that head counts decide; made by `plan_heads`."""

    heads: int
    kv_heads: int
    target: int
    merge: Merge

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Return how many heads go into each squeezed head, in order."""
        sizes = [1] * self.heads
        while len(sizes) > self.target:
            merged = 2 * min(len(sizes) // 2, len(sizes) - self.target)
            sizes = [sizes[i] + sizes[i + 1] for i in range(0, merged, 2)] + sizes[merged:]
        return tuple(sizes)

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Return the groups, neighbours of one shape together."""
        shaped = ((start, self._sources(start, size)) for start, size in self._groups())
        runs = []
        for sources, members in groupby(shaped, key=lambda group: group[1]):
            starts = [start for start, _ in members]
            kv_starts = tuple(self._source(start) for start in starts)
            runs.append(Run(starts[0], len(sources), sources, kv_starts))
        return tuple(runs)

    def _groups(self) -> Iterator[tuple[int, int]]:
        start = 0
        for size in self.sizes:
            yield start, size
            start += size

    def _source(self, head: int) -> int:
        return head * self.kv_heads // self.heads

    def _sources(self, start: int, size: int) -> tuple[int, ...]:
        return tuple(self._source(head) - self._source(start) for head in range(start, start + size))


def plan_heads(heads: int, target: int, *, kv_heads: int | None = None, merge: Merge = "progressive") -> HeadPlan:
    """Plan how `heads` attention heads are squeezed to `target`.

    With fewer teacher than student heads, plan both sides for the smaller count: the student is squeezed then, and the
    gradient reaches all its heads. A side that has `target` heads already passes unchanged.

    Args:
        heads: Attention heads of the model to squeeze.
        target: Heads to end at, exactly.
        kv_heads: Its key-value heads (grouped or multi-query attention); None means one per head.
        merge: How a group's heads are weighed.

    Raises:
        ModelError: Heads that cannot be squeezed as asked.
    """
    kv_heads = heads if kv_heads is None else kv_heads
    if min(heads, target, kv_heads) < 1:
        raise ModelError(f"head counts must be positive, not heads={heads}, target={target}, kv_heads={kv_heads}")
    if heads % kv_heads:
        raise ModelError(f"{heads} attention heads do not divide among {kv_heads} key-value heads")
    if target > heads:
        raise ModelError(f"cannot squeeze {heads} heads to {target}; squeeze the side with {target} heads to {heads}")
    plan = HeadPlan(heads, kv_heads, target, merge)
    if merge == "joint" and max(plan.sizes) > JOINT_LIMIT:
        raise ModelError(
            f"merge 'joint' takes at most {JOINT_LIMIT} heads into one, but {heads} → {target} needs "
            f"{max(plan.sizes)}; use merge 'progressive'"
        )
    return plan


def halving(size: int) -> tuple[Pair, ...]:
    """Return the merges that halve a group of `size` adjacent heads down to one, in order."""
    bounds = list(range(size + 1))
    pairs = []
    while len(bounds) > 2:
        full = len(bounds) - 2
        pairs += [Pair(*bounds[i : i + 3]) for i in range(0, full, 2)]
        bounds = [bound for i, bound in enumerate(bounds) if i % 2 == 0 or i == len(bounds) - 1]
    return tuple(pairs)
