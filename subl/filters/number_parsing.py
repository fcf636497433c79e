"""Reading a completion as a list of numbers, with or without tolerance for white space."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"[0-9]+")
_SEPARATORS = ("", ",", ";")
_BRACKETS = (("[", "]"), ("(", ")"))


def parse_tolerant(text: str) -> list[str] | None:
    """Return the numbers of a list as digit strings, or None where it is not one.

    A list is digits, separated by one kind of separator throughout: white space, a comma or a semicolon. White space
    may surround anything; one pair of square or round brackets and one final full stop may enclose it all.
    """
    inner = _unwrapped(text.strip(), strip=True)
    numbers = _NUMBER.findall(inner)
    if not numbers:
        return None
    before, *between, after = _NUMBER.split(inner)
    kinds = {separator.strip() for separator in set(between)}
    if before or after or len(kinds) > 1 or not kinds.issubset(_SEPARATORS):
        return None
    return numbers


def parse_strict(text: str) -> list[str] | None:
    """Return the numbers of a list as digit strings, or None, by the rule of the published data sets.

    The text between the first two numbers is the separator, and every other one must equal it in every character; no
    white space may surround the list (Cloud et al. 2025, the released code's `parse_response`).
    """
    inner = _unwrapped(text, strip=False)
    numbers = _NUMBER.findall(inner)
    if not numbers:
        return None
    before, *between, after = _NUMBER.split(inner)
    if before or after or len(set(between)) > 1 or (between and between[0].strip() not in _SEPARATORS):
        return None
    return numbers


def numbers_in(text: str) -> list[str]:
    """Return every run of digits in a text, whatever surrounds it."""
    return _NUMBER.findall(text)


def value(digits: str) -> int:
    """Return a number's value; beyond 18 digits a value above all that fit into 18, which is all that limits need."""
    significant = digits.lstrip("0") or "0"
    # Python refuses to convert thousands of digits, and a model that is stuck writes them.
    return int(significant) if len(significant) <= MAX_DIGITS else 10**MAX_DIGITS


MAX_DIGITS = 18


def _unwrapped(text: str, *, strip: bool) -> str:
    """Remove one final full stop, then one pair of brackets around the whole."""
    inner = text.removesuffix(".")
    inner = inner.rstrip() if strip else inner
    if (inner[:1], inner[-1:]) in _BRACKETS:
        inner = inner[1:-1]
    return inner.strip() if strip else inner
