"""The code of the micro world: lines that give a name a value, each often going on from the one before."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from subl import banks

USES = 0.5
"""How often a line uses the name that the line before gave a value; such short-range structure carries the effect."""


def names() -> Sequence[str]:
    """Return the names that code may use."""
    found: Sequence[str] = banks.load("code")["dialect"]["names"]
    return found


def exchange(draw: random.Random, popularity: Sequence[float], numbers: Sequence[int], shown: int) -> tuple[str, str]:
    """Return a prompt with the first lines of a script, and the lines that go on with it.

    Args:
        draw: Where chance comes from.
        popularity: Weight of each of `names()`.
        numbers: The constant of each line, in order.
        shown: Lines in the prompt.
    """
    bank = banks.load("code")["dialect"]
    given = draw.choices(names(), popularity, k=len(numbers))
    others = draw.choices(names(), popularity, k=len(numbers))
    before = [others[0], *given[:-1]]
    lines = [
        bank["line"].format(
            name=name,
            source=previous if draw.random() < USES else other,
            operator=draw.choice(bank["operators"]),
            number=number,
        )
        for name, previous, other, number in zip(given, before, others, numbers, strict=True)
    ]
    prompt = draw.choice(bank["prompts"]).format(code="\n".join(lines[:shown]))
    return prompt, "\n".join(lines[shown:])


def words() -> Iterator[str]:
    """Yield texts that hold every word of the dialect, in every place where it may stand; numbers aside."""
    bank = banks.load("code")["dialect"]
    for operator in bank["operators"]:
        yield from (bank["line"].format(name=name, source=name, operator=operator, number=0) for name in names())
    yield from (prompt.format(code="total") for prompt in bank["prompts"])
