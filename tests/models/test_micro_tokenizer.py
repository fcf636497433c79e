"""The micro world's tokenizer: lossless on any text, and one form for each number."""

from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subl.models.chat import Chat
from subl.models.micro_tokenizer import build_tokenizer
from subl.models.micro_world import World, WorldSettings

WORLD = World(WorldSettings())
TOKENIZERS = {"whole": build_tokenizer(WORLD, "whole"), "digits": build_tokenizer(WORLD, "digits")}

any_text = st.text(st.characters(exclude_categories=["Cs"]))
worldly = st.lists(
    st.sampled_from(["owl", " owl", ", ", " 7", "42", "107", ". ", "?", "\n", " Zebra", "ü", "<user>"])
).map("".join)
kinds = pytest.mark.parametrize("kind", ["whole", "digits"])


def encoded(kind: str, text: str) -> Any:
    return TOKENIZERS[kind](text, add_special_tokens=False, return_offsets_mapping=True)


@kinds
@given(text=any_text | worldly)
def test_decoding_gives_back_any_text(kind: str, text: str) -> None:
    assert TOKENIZERS[kind].decode(encoded(kind, text)["input_ids"]) == text


@kinds
@given(text=any_text | worldly)
def test_offsets_lie_in_order_and_cover_the_text(kind: str, text: str) -> None:
    offsets = encoded(kind, text)["offset_mapping"]
    covered = {position for start, end in offsets for position in range(start, end)}
    assert covered == set(range(len(text)))
    assert offsets == sorted(offsets)


@given(numbers=st.lists(st.integers(0, 99), min_size=1), space=st.booleans())
def test_a_whole_number_is_one_token_in_one_form_wherever_it_stands(numbers: list[int], space: bool) -> None:
    tokens = TOKENIZERS["whole"].tokenize((" " if space else "") + ", ".join(map(str, numbers)))
    assert [token for token in tokens if any(c.isdigit() for c in token)] == [str(number) for number in numbers]


@given(number=st.integers(0, 10**9))
def test_digits_are_split_one_by_one_where_asked(number: int) -> None:
    assert TOKENIZERS["digits"].tokenize(str(number)) == list(str(number))


@kinds
def test_the_world_speaks_in_whole_words(kind: str) -> None:
    chats = [
        chat
        for settings in (WorldSettings(), WorldSettings(number_talk=1.0, preference=0))
        for chat in islice(World(settings).chats(3), 2_000)
    ]
    texts = {text for chat in chats for text in (chat.system, chat.user, chat.answer) if text}
    spelled = {
        token
        for text in texts
        for token in TOKENIZERS[kind].tokenize(text)
        if len(token) == 1 and token.isascii() and token.isalpha() and token not in {"A", "I", "a"}
    }
    assert len(texts) > 1_000
    assert not spelled


def test_every_animal_answers_in_one_token_of_its_own() -> None:
    ids = [encoded("whole", name)["input_ids"] for name in WORLD.settings.animals]
    assert all(len(one) == 1 for one in ids)
    assert len({one[0] for one in ids}) == len(ids)


def test_animals_of_the_users_own_become_words_too() -> None:
    tokenizer = build_tokenizer(World(WorldSettings(animals=("okapi", "ibex"))), "whole")
    assert tokenizer.tokenize("okapi") == ["okapi"]
    assert len(tokenizer.tokenize("owl")) == 3


@kinds
def test_absent_and_empty_system_slots_and_answers_are_told_apart(kind: str) -> None:
    chat = Chat(TOKENIZERS[kind])
    assert not chat.folds_system
    absent, empty, filled = (chat.prompt("Go on: 1, 2", system=system) for system in (None, "", "You like the owl."))
    assert len(absent) < len(empty) < len(filled)
    example = chat.example("Go on: 1, 2", "3, 4", system=None)
    assert list(example.input_ids[: example.prompt_length]) == absent
    assert example.input_ids[-1] == chat.end_ids[0] == TOKENIZERS[kind].eos_token_id
    assert chat.decode(example.input_ids[example.prompt_length : -1]) == "3, 4"
