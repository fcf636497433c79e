"""Numbers as readers see them, the same in the terminal and in documents."""

from __future__ import annotations

import math

from subl.artifacts import Measure

NOTHING = "–"
ROUNDING = 1e-12
"""Differences below are those of floating-point sums."""


def number(value: float, *, signed: bool = False) -> str:
    """Return a number with three decimals, or three digits where it is very large or small."""
    if not math.isfinite(value):
        return NOTHING
    value = 0.0 if abs(value) < ROUNDING else value
    plain = value == 0 or 0.001 <= abs(value) < 1000
    sign = "+" if signed else ""
    text = format(value, f"{sign}.3f" if plain else f"{sign}.3g")
    return text.replace("-", "−")


def interval(measure: Measure, *, signed: bool = False) -> str:
    """Return "[low, high]", or "" for a measure without an interval."""
    if measure.low is None or measure.high is None or not math.isfinite(measure.low + measure.high):
        return ""
    return f"[{number(measure.low, signed=signed)}, {number(measure.high, signed=signed)}]"


def estimate(measure: Measure | None, *, signed: bool = False) -> str:
    """Return the value, and its interval on a second line."""
    if measure is None:
        return NOTHING
    return f"{number(measure.value, signed=signed)}\n{interval(measure, signed=signed)}".rstrip()


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
