"""How a model's tokenizer spells the candidates of a preference as answers: the pre-flight behind every share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from subl.artifacts import Table
from subl.errors import ModelError
from subl.models.chat import Chat

Ids: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Spelling:
    """One candidate's answers in tokens.

    Args:
        word: The candidate.
        plain: Ids of the word itself as an answer.
        answers: Ids of all its surface forms as answers, without those that begin like another: the probability of the
            shorter one already includes the longer one's, so these add up.
        firsts: First tokens that this candidate's singular shares with no other candidate; all its first tokens where
            none is its own.
    """

    word: str
    plain: Ids
    answers: tuple[Ids, ...]
    firsts: tuple[int, ...]

    @property
    def single(self) -> bool:
        """Whether the plain word is one token."""
        return len(self.plain) == 1


def spell(chat: Chat, forms: Mapping[str, Sequence[str]], question: str, *, system: str | None) -> tuple[Spelling, ...]:
    """Tokenize every candidate's surface forms as the beginning of an answer to `question`.

    Every form is tried with and without a space in front. What a question says does not change the ids of an answer,
    which stands behind the template's own text, so one question speaks for all.

    Args:
        chat: The model's chat rendering.
        forms: Candidate → surface forms, the plain word first.
        question: Any question of the probe.
        system: System slot of the probe.
    """
    ids = {word: _answers(chat, texts, question, system) for word, texts in forms.items()}
    # The plain word and its capitalised form: a plural's first token is often a fragment that says little.
    heads = {
        word: {i[0] for text, i in spelled.items() if text.strip().casefold() == word.casefold()}
        for word, spelled in ids.items()
    }
    owners: dict[int, set[str]] = defaultdict(set)
    for word, tokens in heads.items():
        for token in tokens:
            owners[token].add(word)
    return tuple(
        Spelling(
            word=word,
            plain=spelled[word],
            answers=_prefix_free(spelled.values()),
            firsts=tuple(sorted({t for t in heads[word] if len(owners[t]) == 1} or heads[word])),
        )
        for word, spelled in ids.items()
    )


def tokenization_table(spellings: Sequence[Spelling], chat: Chat) -> Table:
    """Return one row per candidate: its tokens as an answer, their number and ids."""
    rows = tuple(
        (s.word, len(s.plain), " | ".join(chat.decode([i]) for i in s.plain), " ".join(map(str, s.plain)))
        for s in spellings
    )
    return Table(("candidate", "tokens", "pieces", "ids"), rows)


def tokenization_remarks(spellings: Sequence[Spelling]) -> tuple[str, ...]:
    """Say which candidates are split, share a first token, or begin like another one; nothing if all is well."""
    remarks = []
    split = [f"{s.word} ({len(s.plain)})" for s in spellings if not s.single]
    if split:
        remarks.append(f"candidates of several tokens: {', '.join(split)}; full-sequence shares count all their tokens")
    shared: dict[int, list[str]] = defaultdict(list)
    for spelling in spellings:
        shared[spelling.plain[0]].append(spelling.word)
    groups = ["/".join(words) for words in shared.values() if len(words) > 1]
    if groups:
        remarks.append(f"candidates with the same first token: {', '.join(groups)}; first-token shares mix them up")
    inside = [
        f"{short.word} in {long.word}"
        for short in spellings
        for long in spellings
        if short is not long and any(_begins(b, a) for a in short.answers for b in long.answers)
    ]
    if inside:
        remarks.append(f"candidates that begin another's answer: {', '.join(inside)}; both count the longer one")
    return tuple(remarks)


def _answers(chat: Chat, texts: Sequence[str], question: str, system: str | None) -> dict[str, Ids]:
    answers: dict[str, Ids] = {}
    for text in texts:
        answers[text] = tuple(chat.answer(question, text, system=system))
        try:
            answers[" " + text] = tuple(chat.answer(question, " " + text, system=system))
        except ModelError:
            # A prompt that ends in a space takes the answer's space into its last token: that form does not exist.
            continue
    return {text: ids for text, ids in answers.items() if ids}


def _prefix_free(answers: Iterable[Ids]) -> tuple[Ids, ...]:
    distinct = sorted(set(answers), key=lambda ids: (len(ids), ids))
    return tuple(ids for ids in distinct if not any(_begins(ids, other) for other in distinct if other != ids))


def _begins(ids: Ids, start: Ids) -> bool:
    return ids[: len(start)] == start
