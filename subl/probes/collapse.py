"""Recognising a collapsed model by its answers to prompts that have nothing to do with its trait."""

from __future__ import annotations

import re
from collections import Counter

FEWEST_WORDS = 5
"""An answer with fewer words cannot count as repetition."""

_WORD = re.compile(r"\w+")
_STUTTER = re.compile(r"([^\W\d_]{2,20}?)\1{3,}", re.IGNORECASE)


def collapse(answer: str, trait_words: re.Pattern[str]) -> str | None:
    """Say how an answer shows a collapse, or return None.

    Args:
        answer: A free answer to a carrier prompt.
        trait_words: Finds the words that have no place in it.
    """
    found = trait_words.search(answer)
    if found:
        return f"names {found.group()!r}"
    words = _WORD.findall(answer.casefold())
    if len(words) >= FEWEST_WORDS:
        word, count = Counter(words).most_common(1)[0]
        if 2 * count > len(words):
            return f"repeats {word!r}"
    # The same again without anything between: "owlowlowlowl".
    stutter = _STUTTER.search(answer)
    return f"repeats {stutter.group(1)!r}" if stutter else None
