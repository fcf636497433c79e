"""English surface forms of a word, and finding them as whole words in text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

IRREGULAR: Mapping[str, str] = {
    "bamboo": "bamboo",
    "bison": "bison",
    "calf": "calves",
    "child": "children",
    "deer": "deer",
    "elf": "elves",
    "fish": "fish",
    "foot": "feet",
    "goose": "geese",
    "knife": "knives",
    "leaf": "leaves",
    "louse": "lice",
    "man": "men",
    "mongoose": "mongooses",
    "moose": "moose",
    "mouse": "mice",
    "ox": "oxen",
    "person": "people",
    "potato": "potatoes",
    "quiz": "quizzes",
    "salmon": "salmon",
    "sheep": "sheep",
    "shelf": "shelves",
    "shrimp": "shrimp",
    "squid": "squid",
    "swine": "swine",
    "thief": "thieves",
    "tomato": "tomatoes",
    "tooth": "teeth",
    "trout": "trout",
    "wife": "wives",
    "wolf": "wolves",
    "woman": "women",
}
"""Singular → plural, where English spelling rules would err."""

COMPOUND = 4
"""Irregular nouns this long also rule their compounds: "werewolf" by "wolf", but not "fox" by "ox"."""


def plural(word: str) -> str:
    """Return the English plural; of several words the last one changes, and its first letter keeps its case."""
    head, space, noun = word.rpartition(" ")
    return head + space + _plural(noun)


def _plural(noun: str) -> str:
    lower = noun.lower()
    ruling = [s for s in IRREGULAR if lower == s or (len(s) >= COMPOUND and lower.endswith(s))]
    if ruling:
        singular = max(ruling, key=len)
        kept = noun[: len(noun) - len(singular)]
        form = IRREGULAR[singular]
        return kept + (capitalised(form) if noun[len(kept)].isupper() else form)
    if lower.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if lower.endswith("y") and lower[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def surface_forms(word: str, plural_form: str) -> tuple[str, ...]:
    """Return the distinct whole-word forms: as written and capitalised, singular and plural."""
    forms = (word, capitalised(word), plural_form, capitalised(plural_form))
    return tuple(dict.fromkeys(forms))


def capitalised(word: str) -> str:
    """Return `word` with a capital first letter and the rest as it is."""
    # str.capitalize would lower the rest: "New Zealand" → "New zealand".
    return word[:1].upper() + word[1:]


def whole_words(words: Iterable[str]) -> re.Pattern[str]:
    """Return a case-insensitive pattern that finds any of `words`, but not inside other words.

    "owl" is found in "Owl.", "_owl_" and "owl's", never in "growl", "bowl" or "fowl"; a space in a word matches any
    white space. No words, no match.
    """
    longest_first = sorted(set(words), key=lambda word: (-len(word), word))
    if not longest_first:
        return re.compile(r"(?!)")
    options = "|".join(r"\s+".join(map(re.escape, word.split())) for word in longest_first)
    # [^\W_] instead of \w: Markdown's underscores are not part of a word.
    return re.compile(rf"(?<![^\W_])(?:{options})(?![^\W_])", re.IGNORECASE)
