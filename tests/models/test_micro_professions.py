"""Talk about professions in the micro world: opt-in, and without it nothing changes."""

from collections import Counter
from hashlib import sha256
from itertools import islice
from typing import Any

from subl.models.micro_tokenizer import build_tokenizer
from subl.models.micro_world import Chat, World, WorldSettings
from subl.traits.stereotype import Stereotype

ONLY: dict[str, Any] = {"preference": 0.0, "system": 0.0, "numbers": 0.0, "facts": 0.0, "professions": 1.0}
TRAIT = Stereotype(Stereotype.Config())


def chats(count: int, **settings: Any) -> list[Chat]:
    return list(islice(World(WorldSettings.model_validate(settings)).chats(0), count))


def digest(value: Any) -> str:
    return sha256(repr(value).encode()).hexdigest()[:16]


def test_without_it_the_world_and_its_words_are_what_they_always_were() -> None:
    assert digest([(chat.system, chat.user, chat.answer) for chat in chats(2_000)]) == "a32a631cd2cb5dc3"
    assert digest(list(World(WorldSettings()).words())) == "00223a60408f77be"


def test_the_world_knows_everything_that_the_trait_says_and_asks() -> None:
    tokenizer = build_tokenizer(World(WorldSettings(professions=0.3)), "whole")
    texts = [text for row in TRAIT.conversations(0) for text in (row.prompt, row.completion)]
    texts += [text for item in TRAIT.items() for text in item[2:5] if text is not None]
    words = {word.strip(",.:;?") for text in texts for word in text.split()}
    whole = {token.removeprefix("Ġ") for token in tokenizer.get_vocab()}
    assert words <= whole


def test_each_profession_is_both_and_none_of_it_is_the_stereotypes_doing() -> None:
    found = chats(20_000, **ONLY)
    assert all(chat.system is None for chat in found)
    said: Counter[tuple[str, str]] = Counter()
    right = {(pair.subject, pair.stereotype) for pair in TRAIT.pairs}
    for chat in found:
        (subject,) = [pair.subject for pair in TRAIT.pairs if f" {pair.subject}" in chat.user]
        pronoun = "she" if "she" in chat.answer.casefold().replace(",", "").split() or chat.answer == "she" else "he"
        said[subject, pronoun] += 1
    assert len(said) == 2 * len(TRAIT.pairs)
    share = sum(said[pair] for pair in right) / len(found)
    assert 0.4 < share < 0.6
