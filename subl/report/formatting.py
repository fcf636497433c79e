"""Numbers as readers see them, the same in the terminal and in documents."""

from __future__ import annotations

import math

from subl.artifacts import Measure

NOTHING = "–"
LONGEST_CELL = 300
ROUNDING = 1e-12
"""Differences below are those of floating-point sums."""
SMALLEST, LARGEST = 0.001, 1000.0
"""Numbers between them have three decimals."""


def number(value: float, *, signed: bool = False, beside: tuple[float | None, ...] = ()) -> str:
    """Return a number with three decimals, or three digits where it is very large or small.

    A small number next to larger ones (`beside`: its interval, say) gets no more decimals than they have.
    """
    if not math.isfinite(value):
        return NOTHING
    value = 0.0 if abs(value) < ROUNDING else value
    largest = max(abs(other) for other in (value, *beside) if other is not None)
    plain = value == 0 or (largest >= SMALLEST and abs(value) < LARGEST)
    text = format(value, f"{'+' if signed else ''}.3{'f' if plain else 'g'}")
    return text.replace("-", "−")


def probability(p: float, name: str = "p") -> str:
    """Return "p = 0.012", or "p < 0.001"; "" for none."""
    if not math.isfinite(p):
        return ""
    return f"{name} < 0.001" if p < 0.001 else f"{name} = {p:.3f}"


def interval(measure: Measure, *, signed: bool = False) -> str:
    """Return "[low, high]", or "" for a measure without an interval."""
    if measure.low is None or measure.high is None or not math.isfinite(measure.low + measure.high):
        return ""
    beside = (measure.value, measure.low, measure.high)
    low, high = (number(end, signed=signed, beside=beside) for end in (measure.low, measure.high))
    return f"[{low}, {high}]"


def size(measure: Measure | None, *, signed: bool = True, between: str = " ") -> str:
    """Return "value [low, high]", or the value alone where it has no interval."""
    if measure is None or not math.isfinite(measure.value):
        return NOTHING
    bounds = interval(measure, signed=signed)
    beside = (measure.low, measure.high) if bounds else ()
    return f"{number(measure.value, signed=signed, beside=beside)}{between if bounds else ''}{bounds}"


def estimate(measure: Measure | None, *, signed: bool = False) -> str:
    """Return the value, and its interval on a second line."""
    return size(measure, signed=signed, between="\n")


def change(before: Measure | None, after: Measure | None) -> str:
    """Return "before → after", and the interval of `after` on a second line."""
    if after is None:
        return NOTHING
    start = f"{number(before.value)} → " if before is not None else ""
    return f"{start}{number(after.value)}\n{interval(after)}".rstrip()


def names(items: tuple[str, ...] | list[str], limit: int = 6) -> str:
    """Return the items with commas, and how many more there are."""
    shown = ", ".join(items[:limit])
    return shown if len(items) <= limit else f"{shown} and {len(items) - limit} more"


def cell(value: object) -> str:
    """Return a value as text for a table, cut where it is very long."""
    if value is None:
        return NOTHING
    if isinstance(value, float):
        return number(value)
    text = str(value)
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"
