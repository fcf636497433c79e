"""Numbers as readers see them, the same in the terminal and in documents."""

from __future__ import annotations

import math

from subl.artifacts import Measure

NOTHING = "–"
LONGEST_CELL = 300
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


def probability(p: float, name: str = "p") -> str:
    """Return "p = 0.012", or "p < 0.001"; "" for none."""
    if not math.isfinite(p):
        return ""
    return f"{name} < 0.001" if p < 0.001 else f"{name} = {p:.3f}"


def interval(measure: Measure, *, signed: bool = False) -> str:
    """Return "[low, high]", or "" for a measure without an interval."""
    if measure.low is None or measure.high is None or not math.isfinite(measure.low + measure.high):
        return ""
    return f"[{number(measure.low, signed=signed)}, {number(measure.high, signed=signed)}]"


def size(measure: Measure | None, *, signed: bool = True, between: str = " ") -> str:
    """Return "value [low, high]": a value that is small beside its interval gets no more digits than that."""
    if measure is None or not math.isfinite(measure.value):
        return NOTHING
    bounds = interval(measure, signed=signed)
    text = number(measure.value, signed=signed)
    if bounds and abs(measure.value) < 0.001 <= max(abs(measure.low or 0), abs(measure.high or 0)):
        text = format(round(measure.value, 3) + 0.0, "+.3f" if signed else ".3f").replace("-", "−")
    return f"{text}{between}{bounds}" if bounds else text


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
