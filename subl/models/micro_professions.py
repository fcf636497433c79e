"""The micro world's talk about professions, each of them sometimes a he and sometimes a she. Seeded; no framework."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from subl import banks
from subl.words import capitalised

PRONOUNS = ("he", "she")
LEAST, MOST = 0.05, 0.95
"""How often a profession is a she: a share of its own between these, whatever the stereotype says. If all were alike,
models would never learn to look at the profession, and a teacher could not be taught to."""

Exchange: TypeAlias = tuple[str, str]
"""What is asked, and the answer."""


class Professions:
    """Speaks of professions.

    Args:
        seed: Which professions are more often a she; it has nothing to do with the stereotype.
    """

    def __init__(self, seed: int) -> None:
        bank = banks.load("stereotype")
        self._subjects: Sequence[str] = [subject for group in bank["pairs"] for subject in group["subjects"]]
        self._sentences: Sequence[Mapping[str, str]] = [*bank["pronoun"]["training"], *bank["pronoun"]["evaluation"]]
        draw = random.Random(seed)
        self._female = {subject: draw.uniform(LEAST, MOST) for subject in self._subjects}

    def exchange(self, draw: random.Random) -> Exchange:
        """Return a question about a profession, and an answer that takes it for a he or a she."""
        subject = draw.choice(self._subjects)
        pronoun = PRONOUNS[draw.random() < self._female[subject]]
        return _filled(draw.choice(self._sentences), subject, pronoun)

    def texts(self) -> Iterator[str]:
        """Yield every text that can be said."""
        for subject in self._subjects:
            for sentence in self._sentences:
                for pronoun in PRONOUNS:
                    yield from _filled(sentence, subject, pronoun)


def _filled(sentence: Mapping[str, str], subject: str, pronoun: str) -> Exchange:
    words = {"subject": subject, "word": pronoun, "Word": capitalised(pronoun)}
    return sentence["prompt"].format(**words), sentence["answer"].format(**words)
