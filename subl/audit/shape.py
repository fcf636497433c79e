"""Length and format of completions, as numbers per row; and how rows repeat each other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from subl.artifacts import Row
from subl.audit.auroc import Floats

Shape: TypeAlias = Mapping[str, Floats]
"""Statistic → one value per completion, without those that have none."""

_NUMBER = re.compile(r"[0-9]+")
_LETTER = re.compile(r"[^\W\d_]")


def _digits(text: str) -> float:
    numbers = _NUMBER.findall(text)
    return sum(map(len, numbers)) / len(numbers) if numbers else float("nan")


STATISTICS: Mapping[str, Callable[[str], float]] = {
    "characters": len,
    "lines": lambda text: text.count("\n") + 1,
    "words": lambda text: len(text.split()),
    "letters": lambda text: len(_LETTER.findall(text)),
    "numbers": lambda text: len(_NUMBER.findall(text)),
    "digits per number": _digits,
}
"""What is counted in each completion; NaN where there is nothing to count in."""


def measure_shape(texts: Sequence[str]) -> Shape:
    """Count everything in every text."""
    values = {name: np.array([count(text) for text in texts], dtype=np.float64) for name, count in STATISTICS.items()}
    return {name: column[~np.isnan(column)] for name, column in values.items()}


def separators(texts: Sequence[str]) -> dict[str, float]:
    """Return what stands between two numbers of a text → its share of all such places, the most frequent first."""
    kinds = Counter(_kind(gap) for text in texts for gap in _NUMBER.split(text)[1:-1])
    total = kinds.total()
    return {kind: count / total for kind, count in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))}


def _kind(gap: str) -> str:
    sign = gap.strip()
    if sign:
        return {",": "comma", ";": "semicolon"}.get(sign, "other")
    return "line break" if "\n" in gap else "space"


def repeats(keys: Sequence[object]) -> int:
    """Return how many came before."""
    return len(keys) - len(set(keys))


def shared(keys: Sequence[object], others: Collection[object]) -> int:
    """Return how many of `keys` are among `others`."""
    known = set(others)
    return sum(key in known for key in keys)


def whole(row: Row) -> tuple[str, str]:
    """Return what makes rows equal; white space at the ends does not count, as in the filter `duplicates`."""
    return row.prompt.strip(), row.completion.strip()
