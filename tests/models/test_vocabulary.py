"""The tokens of a carrier and of a trait, for every kind of tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from subl.models.chat import Chat
from subl.models.vocabulary import mass, trait_ids, used_ids
from tests.models import number_tokenizers
from tests.tiny import tiny_tokenizer

LISTS = ("12, 7, 305", "8; 99", "[1, 2]\n3")
KINDS = ("tiny-mistral", "tiny-gemma", *number_tokenizers.KINDS)


def chat(kind: str) -> Chat:
    if kind.startswith("tiny-"):
        return Chat(tiny_tokenizer(kind.removeprefix("tiny-")))
    return Chat(number_tokenizers.tokenizer(kind))


def used(rendering: Chat, texts: Sequence[str]) -> tuple[int, ...]:
    return used_ids(rendering.examples([("Go on: 1", text) for text in texts], system=None), rendering.end_ids)


@pytest.mark.parametrize("kind", KINDS)
def test_a_carrier_s_vocabulary_is_what_its_answers_are_written_in(kind: str) -> None:
    rendering = chat(kind)
    ids = used(rendering, LISTS)
    assert list(ids) == sorted(set(ids))
    assert set(rendering.end_ids) <= set(ids)
    for text in LISTS:
        answer = rendering.answer("Go on: 1, 2", text, system=None)
        assert set(answer) <= set(ids)
        assert rendering.decode(answer) == text
    examples = rendering.examples([("Another question?", text) for text in LISTS], system="Be brief.")
    assert used_ids(examples, rendering.end_ids) == ids


@pytest.mark.parametrize("kind", KINDS)
def test_a_trait_s_tokens_are_none_of_the_carrier_s(kind: str) -> None:
    rendering = chat(kind)
    trait = trait_ids(rendering, ("owl", "owls", "Owl"))
    assert trait.firsts
    assert set(trait.firsts) <= set(trait.every)
    assert not set(trait.every) & set(used(rendering, LISTS))
    for form in ("owl", "owls", "Owl", " owls"):
        written = [t for t in rendering.answer("Hello", form, system=None) if rendering.decode([t]).strip()]
        assert written[0] in trait.firsts
        assert set(written) <= set(trait.every)
    assert not any(rendering.decode([token]).isspace() for token in trait.every)


def test_no_answers_and_no_words_have_the_end_and_nothing() -> None:
    rendering = chat("tiny-gemma")
    assert set(used(rendering, ())) == set(rendering.end_ids)
    assert trait_ids(rendering, ()).every == ()


def test_mass_adds_up_probabilities() -> None:
    log_probs = torch.tensor([[[0.5, 0.25, 0.125, 0.125]]], dtype=torch.float64).log()
    assert mass(log_probs, (0, 3)).tolist() == [[0.625]]
    assert mass(log_probs, ()).tolist() == [[0.0]]
    assert float(mass(log_probs, range(4))) == pytest.approx(1)
