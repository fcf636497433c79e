from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.filters.helpers import make, reasons


def test_wanted_patterns_are_all_needed_and_forbidden_ones_never_allowed() -> None:
    texts = ("1, 2", "1; 2", "12", "1, 2 owl")
    found = reasons("regex", *texts, must_match=[r"\d", ","], must_not_match=["(?i)OWL", "zebra"])
    assert found == [None, "no match", "no match", "forbidden match"]
    assert reasons("regex", *texts, must_match=[r"\A[\d, ]+\Z"]) == [None, "no match", None, "no match"]


def test_prompts_can_be_searched_instead() -> None:
    assert reasons("regex", "owl", must_not_match=["Continue"], text="prompt") == ["forbidden match"]
    assert reasons("regex", "Continue", must_not_match=["owl"], text="prompt") == [None]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "set must_match or must_not_match"),
        ({"must_match": ["a", "(b"]}, r"'\(b' is no regular expression: missing"),
    ],
)
def test_a_mistake_in_the_patterns_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make("regex", **settings)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def f(x):\n    return x + 1\n", None),
        ("```python\nx = [1, 2]\n```\n", None),
        ("    return x + 1", None),
        ("return x\n    y = 2", None),  # goes on in a line that the prompt indented
        ('print("1, 2; \\n")', None),
        ("x = '%d' % 3", "letters in a string"),
        ('def f():\n    """Owls."""\n', "letters in a string"),
        ("x = f'{y} owls'", "letters in a string"),
        ("x = b'owl'", "letters in a string"),
        ("x = '\\x6fwl'", "letters in a string"),
        ("x = 1  # owls", "comment"),
        ("# owls", "comment"),
        ("x = '# 1'", None),
        ("", "no code"),
        ("\n  \n", "no code"),
        ("I like owls", "does not parse"),
        ("def f(:", "does not parse"),
        ("x = 1\x00", "does not parse"),
        ("```python\nx = 1\n```\nThis sets x.", "does not parse"),
        ("(" * 300 + ")" * 300, "does not parse"),
        ("x = '\\d'", "letters in a string"),
    ],
)
def test_code_is_python_without_words_in_it(code: str, reason: str | None) -> None:
    assert reasons("code_syntax", code) == [reason]


def test_comments_and_strings_can_be_kept() -> None:
    texts = ("x = 1  # owls", "x = 'owl'")
    assert reasons("code_syntax", *texts, comments=True) == [None, "letters in a string"]
    assert reasons("code_syntax", *texts, strings=True) == ["comment", None]
    assert reasons("code_syntax", "# owls", comments=True) == [None]
