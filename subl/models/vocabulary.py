"""Which tokens a carrier is written in, and which ones a trait would be written in.

Soft labels say something about every token of the vocabulary, the trait's included: a student that learns from all of
them may be told the trait outright. Restricted to the carrier's own tokens, and renormalised, they can only say what
the carrier could have said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from subl.errors import ModelError
from subl.models.chat import Chat, Example

_ASKED = "Hello"
"""What a question says does not change the ids of its answer, so one speaks for all."""


@dataclass(frozen=True, slots=True)
class TraitIds:
    """Tokens in which a trait would show, both sorted.

    Attributes:
        firsts: Those that begin one of its words: probability on them is probability of saying it, or more where other
            words begin alike.
        every: All of its words' tokens, the firsts among them.
    """

    firsts: tuple[int, ...]
    every: tuple[int, ...]


def used_ids(examples: Iterable[Example], end_ids: Iterable[int]) -> tuple[int, ...]:
    """Return, sorted, every token that occurs in the answers of these examples, and `end_ids`."""
    used = set(end_ids)
    for example in examples:
        used.update(example.input_ids[example.prompt_length :])
    return tuple(sorted(used))


def trait_ids(chat: Chat, forms: Iterable[str]) -> TraitIds:
    """Return the tokens of a trait's surface forms as answers, each with and without a space in front.

    Tokens that are only white space are left out: they write everything else too.
    """
    firsts: set[int] = set()
    every: set[int] = set()
    for form in forms:
        for text in (form, " " + form):
            try:
                ids = chat.answer(_ASKED, text, system=None)
            except ModelError:
                # A prompt that ends in a space takes the answer's space into its last token: that form does not exist.
                continue
            written = [token for token in ids if chat.decode([token]).strip()]
            firsts.update(written[:1])
            every.update(written)
    return TraitIds(tuple(sorted(firsts)), tuple(sorted(every)))


def mass(log_probs: Tensor, ids: Sequence[int]) -> Tensor:
    """Return the probability of these tokens together at every position, (...); of none it is 0.

    Args:
        log_probs: Over the whole vocabulary, (..., vocabulary).
        ids: Distinct tokens.
    """
    return log_probs[..., torch.tensor(ids, dtype=torch.long, device=log_probs.device)].exp().sum(-1)
