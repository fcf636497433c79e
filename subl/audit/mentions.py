"""Overt mentions: where a text names the trait."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from subl.words import whole_words


@dataclass(frozen=True, slots=True)
class Mentions:
    """What was found in some texts.

    Args:
        texts: How many texts there were.
        overt: How many of them hold a surface form as a whole word.
        inside: How many of the others hold one inside another word, as "growl" and "owlowl" hold "owl".
        by_form: Surface form in small letters → (texts that hold it, mentions in all).
    """

    texts: int
    overt: int
    inside: int
    by_form: dict[str, tuple[int, int]]


def find_mentions(texts: Iterable[str], forms: Sequence[str]) -> Mentions:
    """Look for surface forms in any case, the longest where several begin at one place; blank forms do not count."""
    written = sorted({_plain(form) for form in forms if form.strip()})
    whole = whole_words(written)
    anywhere = re.compile("|".join(map(re.escape, written)) or r"(?!)", re.IGNORECASE)
    seen = overt = inside = 0
    holding: Counter[str] = Counter()
    mentions: Counter[str] = Counter(dict.fromkeys(written, 0))
    for text in texts:
        seen += 1
        found = [_plain(match) for match in whole.findall(text)]
        overt += bool(found)
        inside += not found and anywhere.search(text) is not None
        mentions.update(found)
        holding.update(set(found))
    return Mentions(seen, overt, inside, {form: (holding[form], count) for form, count in mentions.items()})


def _plain(form: str) -> str:
    return " ".join(form.casefold().split())
