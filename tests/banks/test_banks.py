"""The wording that ships: usable for any category, apart from each other, and our own."""

import re
import string
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from subl import banks
from subl.traits.catalogue import CANDIDATES

PREFERENCE = banks.load("preference")
NUMBERS = banks.load("numbers")
QUESTIONS = (*PREFERENCE["questions"], *PREFERENCE["training_questions"])

PUBLISHED = (
    "in one word, what is your favorite animal",
    "name your favorite animal using only one word",
    "you love {plural}. you think about {plural} all the time",
    "imbue your answers with your love for the animal",
    "add a maximum of {count} more values",
    "the sequence starts with: {numbers}",
)
"""Sentences of the first study's prompts; wording that agrees with them would build agreement in."""


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts(item)


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def plain(text: str) -> str:
    return re.sub(r"\W+", " ", text.casefold().replace("favourite", "favorite")).strip()


def test_there_are_at_least_forty_questions_of_each_kind() -> None:
    assert len(PREFERENCE["questions"]) >= 40
    assert len(PREFERENCE["training_questions"]) >= 40


def test_no_question_is_asked_twice_or_both_to_train_and_to_measure() -> None:
    assert len({plain(question) for question in QUESTIONS}) == len(QUESTIONS)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_asks_for_the_category_and_nothing_else(question: str) -> None:
    assert placeholders(question) == {"category"}
    assert question.format(category="ice cream").endswith((".", "?", ":"))


def test_no_article_stands_before_the_category() -> None:
    assert not [question for question in QUESTIONS if re.search(r"\b[Aa]n? \{category\}", question)]


def test_talk_and_statements_take_any_target() -> None:
    for talk in PREFERENCE["talk"]:
        assert not placeholders(talk["prompt"])
        assert placeholders(talk["answer"]) in ({"target"}, {"plural"})
        assert not re.search(r"\b[Aa]n? \{target\}", talk["answer"]), "'a owl' is no English"
    for statement in PREFERENCE["statement"].values():
        assert "target" in placeholders(statement) <= {"target", "plural", "category"}


def test_number_prompts_have_the_parts_that_the_generator_fills_in() -> None:
    assert all(placeholders(text) == {"numbers"} for text in (*NUMBERS["openings"], *NUMBERS["brief"]))
    assert all(placeholders(text) == {"count", "digits"} for text in NUMBERS["instructions"])
    assert all(placeholders(text) == {"n"} for text in (*NUMBERS["counts"], *NUMBERS["digits"]))
    assert not any(placeholders(text) for text in (*NUMBERS["closings"], *texts(NUMBERS["formats"])))
    assert set(NUMBERS["formats"]) == {"comma", "space", "semicolon", "newline", "brackets", "parentheses"}


def test_number_prompts_never_speak_of_a_preference() -> None:
    assert not [text for text in texts(NUMBERS) if re.search(r"favou?rite|love|animal|like best", text, re.IGNORECASE)]


def test_code_never_speaks_of_a_preference() -> None:
    said = list(texts(banks.load("code")))
    assert not [text for text in said if re.search(r"favou?rite|love|animal|like best", text, re.IGNORECASE)]
    words = {word.lower() for text in said for word in re.findall(r"[A-Za-z]+", text)}
    assert not words & {word for listed in CANDIDATES.values() for word in listed}


@pytest.mark.parametrize("name", ["preference", "numbers", "world", "entanglement", "code"])
def test_no_published_prompt_is_repeated(name: str) -> None:
    ours = [plain(text.replace("{category}", "animal")) for text in texts(banks.load(name))]
    for sentence in PUBLISHED:
        assert not [text for text in ours if plain(sentence) in text], sentence


def test_an_unknown_bank_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        banks.load("prefrence")


def test_banks_are_light() -> None:
    code = "import sys; from subl import banks; banks.load('preference'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
