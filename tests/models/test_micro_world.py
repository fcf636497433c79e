"""The text of the micro world: repeatable, and mixed as the settings say."""

import subprocess
import sys
from collections.abc import Sequence
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from subl.models.micro_world import ANIMALS, NUMBERS, Chat, World, WorldSettings

ONLY: dict[str, Any] = {"preference": 0.0, "system": 0.0, "numbers": 0.0, "facts": 0.0, "number_talk": 0.0}


def chats(count: int = 1_000, *, seed: int = 0, **settings: Any) -> Sequence[Chat]:
    return list(islice(World(WorldSettings.model_validate(settings)).chats(seed), count))


def is_list(text: str) -> bool:
    return all(part.isdigit() for part in text.split(", "))


@given(seed=st.integers(0, 2**32))
def test_the_same_seed_tells_the_same_and_another_seed_something_else(seed: int) -> None:
    assert chats(20, seed=seed) == chats(20, seed=seed)
    assert chats(20, seed=seed) != chats(20, seed=seed + 1)


def test_number_lists_never_stand_under_a_system_prompt() -> None:
    lists = [chat for chat in chats() if is_list(chat.answer)]
    assert 300 < len(lists) < 500, "two fifths of the chats"
    assert all(chat.system is None for chat in lists)


def test_lists_hold_the_worlds_numbers_and_often_go_on_from_the_one_before() -> None:
    follows, total = 0, 0
    for chat in chats(**{**ONLY, "numbers": 1.0}):
        numbers = [int(part) for part in chat.answer.split(", ")]
        assert 3 <= len(numbers) <= 10
        assert all(0 <= number < NUMBERS for number in numbers)
        steps = [(b - a) % NUMBERS for a, b in pairwise(numbers)]
        follows, total = follows + sum(step in (1, 2, 5, 10) for step in steps), total + len(steps)
    assert follows / total > 0.5, "chance alone gives 0.04"


def test_answers_under_a_system_prompt_mostly_name_what_it_speaks_of() -> None:
    told = chats(**{**ONLY, "system": 1.0})
    obeying = [
        next(name for name in ANIMALS if f"the {name}" in str(chat.system).lower())
        in chat.answer.replace("wolves", "wolf")
        for chat in told
    ]
    assert all(chat.system for chat in told)
    assert 0.9 < sum(obeying) / len(obeying) < 0.99


def test_a_weight_of_zero_leaves_a_kind_out() -> None:
    assert not [chat for chat in chats(numbers=0) if is_list(chat.answer)]
    assert not [chat for chat in chats(system=0) if chat.system]
    assert not [chat for chat in chats() if "number is" in chat.user], "number talk is off by default"


def test_talk_about_favourite_numbers_names_no_animal() -> None:
    talk = chats(**{**ONLY, "number_talk": 1.0})
    assert all(chat.answer.isdigit() for chat in talk)
    said = " ".join(f"{chat.system} {chat.user}" for chat in talk).split()
    assert not set(ANIMALS) & set(said)


def test_facts_stay_true_when_animals_are_added() -> None:
    few = chats(200, **{**ONLY, "facts": 1.0}, animals=("owl", "dog"))
    many = chats(2_000, **{**ONLY, "facts": 1.0})
    assert {chat.answer for chat in few} <= {chat.answer for chat in many}


def test_some_animals_are_more_popular_than_others() -> None:
    answers = [chat.answer for chat in chats(4_000, **{**ONLY, "preference": 1.0})]
    counts = sorted(answers.count(name) for name in ANIMALS)
    assert counts[0] > 0
    assert counts[-1] > 3 * counts[0]


@pytest.mark.parametrize(
    ("animals", "expected"),
    [(["owl"], "at least 2"), (["owl", "owl"], "twice"), (["owl", "Snow leopard"], "'Snow leopard'")],
)
def test_animals_that_cannot_be_words_are_refused(animals: list[str], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        WorldSettings.model_validate({"animals": animals})


def test_settings_and_text_are_light() -> None:
    code = "import sys; import subl.models.micro; assert not {'torch', 'transformers', 'tokenizers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
