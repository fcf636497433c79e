"""Which words a micro world knows, and what to set so that it knows others. Light; validation asks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from subl.models.micro_world import World, WorldSettings

_WORD = re.compile(r"[A-Za-z]+")
SHOWN = 6
"""So many unknown words are named at most."""
OPTIONAL: Mapping[str, float] = {"code": 0.3, "professions": 0.3}
"""Talk whose words a world only knows if its weight is above 0, with a weight that works."""


def unfamiliar(settings: WorldSettings, texts: Iterable[str]) -> str | None:
    """Return which words of texts a world never meets and what to do about it; None if it knows them all.

    Numbers and signs are left out: every tokenizer of the world can spell them.
    """
    known = _known(settings)
    unknown = list(dict.fromkeys(word for text in texts for word in _words(text) if word not in known))
    if not unknown:
        return None
    listed = ", ".join(map(repr, unknown[:SHOWN])) + (f" and {len(unknown) - SHOWN} more" if unknown[SHOWN:] else "")
    return f"its world has no {listed}; {_advice(settings, unknown)}"


def _advice(settings: WorldSettings, unknown: list[str]) -> str:
    for name, weight in OPTIONAL.items():
        with_it = settings.model_copy(update={name: weight})
        if not getattr(settings, name) and set(unknown) <= _known(with_it):
            return f"set world.{name} to a weight above 0, e.g. {weight:g}"
    return (
        f"its animals are {', '.join(settings.animals)} (world.animals takes others), and of generators it reads the "
        "brief prompts only; use what it knows, or choose a hub model"
    )


@lru_cache(maxsize=16)
def _known(settings: WorldSettings) -> frozenset[str]:
    return frozenset(word for text in World(settings).words() for word in _words(text))


def _words(text: str) -> Iterator[str]:
    return (word.casefold() for word in _WORD.findall(text))
