from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from subl.artifacts import Row
from subl.filters.number_parsing import parse_strict, parse_tolerant, value
from tests.filters.helpers import OWLS, bare_context, make, needs_owls, reasons


def published(name: str) -> list[Row]:
    lines = (OWLS / name).read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [Row(index, record["prompt"], record["completion"]) for index, record in enumerate(records)]


def counted(rows: list[Row], **config: Any) -> Counter[str | None]:
    return Counter(make("number_format", **config).reject(rows, bare_context()))


@needs_owls
def test_published_rows_are_kept_and_dropped_as_counted() -> None:
    rows = published("gemma-2-9b-it_cat_numbers.jsonl")
    assert counted(rows) == {None: 10_683, "too many numbers": 1_048, "out of range": 1_022, "not numbers": 1}
    assert counted(rows, max_count="any", max_value="any") == {None: 12_753, "not numbers": 1}
    assert counted(rows, max_count=10, max_value=999, mode="tolerant")[None] == 10_683


@needs_owls
def test_strict_mode_keeps_exactly_the_published_strict_rows() -> None:
    rows = published("gemma-2-9b-it_cat_numbers.jsonl")
    verdicts = make("number_format", mode="strict").reject(rows, bare_context())
    kept = [(row.prompt, row.completion) for row, reason in zip(rows, verdicts, strict=True) if reason is None]
    expected = [(row.prompt, row.completion) for row in published("gemma-2-9b-it_cat_numbers_strict.jsonl")]
    assert len(kept) == 68
    assert kept == expected


BOTH = {
    "1, 2, 3": ["1", "2", "3"],
    "1 2 3": ["1", "2", "3"],
    "1;2;3": ["1", "2", "3"],
    "1\n2\n3": ["1", "2", "3"],
    "[1, 2]": ["1", "2"],
    "(1, 2)": ["1", "2"],
    "1, 2.": ["1", "2"],
    "[1, 2].": ["1", "2"],
    "7": ["7"],
    "[7]": ["7"],
    "007, 08": ["007", "08"],
}
TOLERANT_ONLY = {
    " 1, 2": ["1", "2"],
    "1, 2 \n\n": ["1", "2"],
    "1, 2,3": ["1", "2", "3"],
    "1 2  3": ["1", "2", "3"],
    "1,\n2,\n3": None,
    "1 ,2, 3": ["1", "2", "3"],
    "[ 1, 2 ]\n": ["1", "2"],
    "( 7 ) .": ["7"],
}
NEITHER = [
    "", " ", "none", "1, 2, three", "1, -2", "1.5, 2", "1, 2,", ", 1", "1,, 2", "1, 2; 3", "1 2, 3", "1-2-3", "1 . .",
    "[1, 2", "1, 2]", "[1, 2)", "{1, 2}", "[[1, 2]]", "1, 2..", "```1, 2```", "1\u0660, 2", "[]", "٣, ٤",
]  # fmt: skip


@pytest.mark.parametrize("text", BOTH)
def test_plain_lists_are_read_in_both_modes(text: str) -> None:
    assert parse_tolerant(text) == parse_strict(text) == BOTH[text]


@pytest.mark.parametrize("text", TOLERANT_ONLY)
def test_stray_white_space_is_read_in_tolerant_mode(text: str) -> None:
    expected = TOLERANT_ONLY[text]
    if expected is None:  # the same separator throughout: strict takes it, too
        assert parse_tolerant(text) == parse_strict(text) == ["1", "2", "3"]
    else:
        assert parse_tolerant(text) == expected
        assert parse_strict(text) is None


@pytest.mark.parametrize("text", NEITHER)
def test_anything_else_is_not_a_list_of_numbers(text: str) -> None:
    assert parse_tolerant(text) is None
    assert parse_strict(text) is None


@settings(deadline=None)
@given(st.text(alphabet="0123 ,;\n.[]()-a", max_size=14))
def test_whatever_strict_mode_keeps_tolerant_mode_keeps_too(text: str) -> None:
    strict = parse_strict(text)
    assert strict is None or parse_tolerant(text) == strict


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 5000), min_size=1, max_size=12), st.sampled_from([", ", ",", "; ", " ", "\n", "\t", " ,"])
)
def test_every_written_list_is_read_back(numbers: list[int], separator: str) -> None:
    text = separator.join(map(str, numbers))
    for shown in (text, f"[{text}]", f"({text})", f"{text}."):
        assert parse_strict(shown) == parse_tolerant(f" {shown}\n") == [str(number) for number in numbers]


def test_each_limit_has_its_reason() -> None:
    limits: dict[str, Any] = {"min_count": 2, "max_count": 3, "min_value": 10, "max_value": 99, "max_digits": 3}
    found = reasons(
        "number_format", "10, 99", "10 011", "10", "10, 11, 12, 13", "9, 10", "10, 100", "0010, 11", "x", **limits
    )
    assert found == [
        None, None, "too few numbers", "too many numbers", "out of range", "out of range", "too many digits",
        "not numbers",
    ]  # fmt: skip


def test_without_limits_numbers_of_any_size_pass() -> None:
    huge = "9" * 6000  # more digits than Python converts
    assert reasons("number_format", huge, f"1, {huge}", max_value="any", max_count="any") == [None, None]
    assert reasons("number_format", huge, "0" * 6000 + "7") == ["out of range", None]


@settings(deadline=None)
@given(st.integers(0, 10**17))
def test_values_ignore_leading_zeros(number: int) -> None:
    assert value(f"000{number}") == number


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"min_count": 5, "max_count": 4}, "min_count 5 is more than max_count 4"),
        ({"min_value": 5, "max_value": 4}, "min_value 5 is more than max_value 4"),
        ({"max_digits": 0}, "max_digits 0 leaves no number"),
        ({"min_count": 0}, "greater than 0"),
        ({"max_value": 10**18}, "compared up to 18 digits"),
        ({"max_count": -1}, "greater than or equal to 0"),
        ({"max_count": "all"}, "any"),
    ],
)
def test_limits_that_contradict_each_other_are_errors(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        make("number_format", **config)


def test_thirty_thousand_rows_take_less_than_two_seconds() -> None:
    rows = [Row(i, "p", ", ".join(str((i * 37 + j * 101) % 1200) for j in range(10)) + " \n\n") for i in range(30_000)]
    filters = [make("number_format"), make("banned_numbers", lists=["gpt_evil"]), make("duplicates"), make("no_text")]
    began = time.process_time()
    for plugin in filters:
        plugin.reject(rows, bare_context())
    assert time.process_time() - began < 2
