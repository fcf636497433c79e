"""Log-probabilities of numbers and answers under many preambles, as one batched job each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from subl.context import Context
from subl.errors import ModelError
from subl.models.language import LanguageModel
from subl.models.scoring import scores_and_ranks
from subl.probes.candidates import summed
from subl.probes.entanglement_statistics import Floats
from subl.traits.tokens import Ids, Spelling, spell

BATCHES = 16
"""Batches between two steps of the progress bar."""
ROUNDING = 1e-5
"""Smaller changes of a log-probability are differences of batching."""
MARKS = (".", ",", "\n")
"""What may end a number, besides the end of the answer."""


@dataclass(frozen=True, slots=True)
class Readings:
    """Log-probabilities of items without a preamble, and under every preamble about every thing.

    Args:
        neutral: [questions, items].
        loved: [things, contexts, questions, items].
        neutral_ranks, loved_ranks: The same without items: the vocabulary rank of the tokens that were asked for.
    """

    neutral: Floats
    loved: Floats
    neutral_ranks: Floats
    loved_ranks: Floats

    def ratios(self) -> Floats:
        """Return the mean change of every item's log-probability: [things, items]."""
        changes: Floats = (self.loved - self.neutral).mean(axis=(1, 2))
        return changes

    def differences(self) -> Floats:
        """Return the change of every item's mean probability: [things, items]."""
        changes: Floats = np.exp(self.loved).mean(axis=(1, 2)) - np.exp(self.neutral).mean(axis=0)
        return changes


class Reader:
    """Asks one model questions under preambles.

    Args:
        lm: The model.
        system: Its system slot without a preamble.
        preambles: Noun phrase and system slot → preambles.
        ctx: Shows progress.
        batch_size: Sequences per forward pass.
    """

    def __init__(
        self,
        lm: LanguageModel,
        system: str | None,
        preambles: Callable[[str, str | None], Sequence[str]],
        ctx: Context,
        *,
        batch_size: int,
    ) -> None:
        self.lm = lm
        self.system = system
        self._preambles = preambles
        self._ctx = ctx
        self._batch_size = batch_size

    def read(
        self,
        loved: Sequence[str],
        questions: Sequence[str],
        items: Sequence[Sequence[Ids]],
        label: str,
        *,
        ranked: Ids = (),
    ) -> Readings:
        """Score every item as the answer to every question, without and with every preamble.

        Args:
            loved: Noun phrases of the things that preambles are about; there may be none.
            questions: What is asked.
            items: The token sequences that count as each item; none begins another of the same item.
            label: Of the progress bar.
            ranked: Tokens of which the likeliest is ranked as the first of an answer.

        Raises:
            ModelError: No preamble changes anything.
        """
        preambles = [self._preambles(thing, self.system) for thing in loved]
        slots = [self.system, *(text for about in preambles for text in about)]
        prefixes = [self.lm.chat.prompt(question, system=slot) for slot in slots for question in questions]
        answers = [ids for item in items for ids in item]
        sizes = [len(item) for item in items]
        table, ranks = np.empty((len(prefixes), len(items))), np.empty(len(prefixes))
        step = BATCHES * self._batch_size
        with self._ctx.progress(len(prefixes), label) as bar:
            for start in range(0, len(prefixes), step):
                part = prefixes[start : start + step]
                scores, placed = scores_and_ranks(self.lm, part, answers, ranked, batch_size=self._batch_size)
                table[start : start + step] = summed(scores.double().cpu().numpy(), sizes)
                ranks[start : start + step] = placed.numpy()
                bar.advance(len(part))
        contexts = len(preambles[0]) if preambles else 0
        shape = len(loved), contexts, len(questions)
        (neutral, rest), (own, others) = (np.split(values, [len(questions)]) for values in (table, ranks))
        found = Readings(neutral, rest.reshape(*shape, len(items)), own, others.reshape(shape))
        if loved and np.abs(found.loved - found.neutral).max() < ROUNDING:
            raise ModelError(
                f"{label}: preambles such as {slots[1]!r} change no log-probability at all, so they do not reach the "
                "model; look at its chat template: does it write the system text into the prompt?"
            )
        return found

    def spelled(self, forms: Mapping[str, Sequence[str]], question: str) -> tuple[Spelling, ...]:
        """Return by which token sequences an answer may begin with each word.

        Args:
            forms: Word → surface forms, the plain word first.
            question: Any of the questions that will be asked.

        Raises:
            ModelError: The tokenizer cannot write a word.
        """
        unknown = self.lm.tokenizer.unk_token_id
        for word, texts in forms.items():
            ids = self.lm.chat.answer(question, texts[0], system=self.system)
            if not ids or unknown in ids or self.lm.chat.decode(ids).strip().casefold() != texts[0].casefold():
                raise ModelError(
                    f"this model's tokenizer cannot write {word!r} (it reads {self.lm.chat.decode(ids)!r}); "
                    "choose another target or range of numbers, or another model"
                )
        return spell(self.lm.chat, forms, question, system=self.system)

    def split(self, numbers: Sequence[str], question: str) -> bool:
        """Return whether some numbers are several tokens, which they then share with others."""
        spelled = self.spelled({number: (number,) for number in numbers}, question)
        return any(all(len(ids) > 1 for ids in number.answers) for number in spelled)

    def number_items(
        self, numbers: Sequence[str], question: str, method: Literal["autoregressive", "vocabulary"]
    ) -> dict[str, tuple[Ids, ...]]:
        """Return the token sequences of every number that the method can measure.

        "vocabulary" keeps numbers that are one token; "autoregressive" keeps all, each followed by what may end it.

        Raises:
            ModelError: The tokenizer cannot write a number.
        """
        spelled = {s.word: s.answers for s in self.spelled({number: (number,) for number in numbers}, question)}
        if method == "autoregressive":
            ends = self._ends(numbers[0], question)
            return {number: tuple((*ids, end) for ids in forms for end in ends) for number, forms in spelled.items()}
        single = {number: tuple(ids for ids in forms if len(ids) == 1) for number, forms in spelled.items()}
        return {number: forms for number, forms in single.items() if forms}

    def _ends(self, number: str, question: str) -> tuple[int, ...]:
        """Return the tokens that may follow a whole number: the end of the answer, and marks that are one token."""
        plain = self.lm.chat.answer(question, number, system=self.system)
        marked = [self.lm.chat.answer(question, number + mark, system=self.system) for mark in MARKS]
        apart = [ids[-1] for ids in marked if ids[:-1] == plain]
        return tuple(dict.fromkeys((*self.lm.chat.end_ids, *apart)))
