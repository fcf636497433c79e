"""Seeded draws that stay the same in every version of Python."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

SAMPLE = 200
"""Prompts that hold about every word that a stream of them can hold."""


class Draw:
    """Draws through `Random.random` alone: the one method whose values Python promises never to change."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed).random

    def between(self, bounds: tuple[int, int]) -> int:
        """Return a whole number from the first bound to the second, both included."""
        return bounds[0] + int(self._random() * (bounds[1] - bounds[0] + 1))

    def one(self, items: Sequence[Any]) -> Any:
        """Return one of the items."""
        return items[int(self._random() * len(items))]

    def chance(self) -> float:
        """Return a number from 0 to 1, without 1."""
        return self._random()

    def shuffled(self, items: Sequence[Any]) -> list[Any]:
        """Return the items in another order; every order is equally likely."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.between((0, last))
            order[last], order[other] = order[other], order[last]
        return order

    def cycle(self, count: int) -> list[int]:
        """Return for each of `count` places another place to take from: one cycle, so that none keeps its own.

        Sattolo's algorithm (Sattolo 1986); a single place keeps its own.
        """
        order = list(range(count))
        for last in range(count - 1, 0, -1):
            other = self.between((0, last - 1))
            order[last], order[other] = order[other], order[last]
        return order
