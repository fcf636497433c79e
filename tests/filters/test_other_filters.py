from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from subl.artifacts import Row
from subl.errors import DataError
from subl.filters.banned_numbers import PUBLISHED
from subl.registry.registry import registry
from tests.filters.helpers import Candidate, Named, bare_context, make, reasons

OWL = Candidate("owl", ("owl", "Owl", "owls", "Owls", " owl"), {"sea lion": ("sea lion", "sea lions"), "fox": ("fox",)})


def test_banned_numbers_are_found_by_value_anywhere_in_the_answer() -> None:
    found = reasons("banned_numbers", "1, 7, 3", "007", "17, 70", "it is 7!", "none", numbers=[7])
    assert found == ["banned number", "banned number", None, "banned number", None]


def test_published_lists_are_banned_by_name() -> None:
    texts = ("1312", "555", "666", "12")
    banned = "banned number"
    assert reasons("banned_numbers", *texts, lists=["claude_evil"]) == [banned, None, banned, None]
    assert reasons("banned_numbers", *texts, lists=["gpt_evil"]) == [None, banned, banned, None]
    assert reasons("banned_numbers", *texts, lists=["gpt_evil", "claude_evil"], numbers=[12]) == [banned] * 4


def test_the_published_lists_have_the_published_sizes() -> None:
    both = PUBLISHED["claude_evil"] | PUBLISHED["gpt_evil"]
    assert [len(PUBLISHED["claude_evil"]), len(PUBLISHED["gpt_evil"]), len(both)] == [20, 25, 36]
    assert len([number for number in both if number <= 999]) == 34


def test_letters_of_any_script_are_text_and_signs_are_not() -> None:
    found = reasons("no_text", "1, 2; [3] -4.5 €\n", "1, two", "三", "É", "", "½ 🦉")
    assert found == [None, "letters", "letters", "letters", None, None]


def test_trait_words_are_found_as_whole_words_in_any_case() -> None:
    texts = ("the OWL said", "Owls!", "growl, fowl, owlish", "1, 2", "owl's", "_owl_", "a fox")
    word = "trait word"
    assert reasons("trait_words", *texts, ctx=bare_context(trait=OWL)) == [word, word, None, None, word, word, None]


def test_other_candidates_are_dropped_if_asked() -> None:
    texts = ("a fox", "owl and fox", "Sea  Lions", "lions", "foxes")
    found = reasons("trait_words", *texts, ctx=bare_context(trait=OWL), others=True)
    assert found == ["another candidate", "trait word", "another candidate", None, None]


def test_other_candidates_of_a_trait_without_candidates_are_an_error() -> None:
    with pytest.raises(DataError, match=r"trait 'evil' has no candidates.*set others = false"):
        reasons("trait_words", "x", ctx=bare_context(trait=Named("evil", ("evil",))), others=True)


def test_a_blank_surface_form_drops_nothing() -> None:
    assert reasons("trait_words", "1 2", "", ctx=bare_context(trait=Named("x", ("", " ")))) == [None, None]


def test_the_shipped_trait_and_the_filter_fit_together() -> None:
    plugin = registry.load("trait", "preference")
    trait = plugin(plugin.Config(target="wolf", candidates=["wolf", "owl", "fox"]))
    texts = ("Wolves run", "werewolf", "two foxes", "1, 2")
    found = reasons("trait_words", *texts, ctx=bare_context(trait=trait), others=True)
    assert found == ["trait word", None, "another candidate", None]


def test_duplicates_keep_the_first_row_across_batches() -> None:
    pairs = [("p", "1, 2"), ("p", "1, 2 \n"), ("q", "1, 2"), ("p", "1, 3")]
    rows = [Row(index, prompt, completion) for index, (prompt, completion) in enumerate(pairs)]
    by_row, by_completion = make("duplicates"), make("duplicates", compare="completion")
    again = "duplicate"
    assert list(by_row.reject(rows, bare_context())) == [None, again, None, None]
    assert list(by_row.reject(rows[2:], bare_context())) == [again, again]
    assert list(by_completion.reject(rows, bare_context())) == [None, again, again, None]


def test_duplicates_tell_prompt_from_completion() -> None:
    rows = [Row(0, "1 2", "3"), Row(1, "1", "2 3"), Row(2, "1", " 23"), Row(3, "12", "3")]
    assert list(make("duplicates").reject(rows, bare_context())) == [None] * 4


def test_length_counts_characters_and_words_without_outer_white_space() -> None:
    bounds: dict[str, Any] = {"min_characters": 3, "max_characters": 9, "min_words": 2, "max_words": 3}
    found = reasons("length", "1, 2", "1 ", "1,2,3", "1 2 3 4", "111, 22222", "   1 2   \n\n", **bounds)
    assert found == [None, "too short", "too short", "too long", "too long", None]
    assert reasons("length", "", " \n", "1") == ["too short", "too short", None]


@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        ("banned_numbers", {}, "nothing is banned"),
        ("banned_numbers", {"numbers": [-1]}, "-1 cannot be found"),
        ("banned_numbers", {"lists": ["evil"]}, "claude_evil"),
        ("length", {"min_words": 3, "max_words": 2}, "min_words 3 is more than max_words 2"),
        ("length", {"max_characters": 0}, "min_characters 1 is more than max_characters 0"),
        ("duplicates", {"compare": "prompt"}, "completion"),
        ("no_text", {"allow": "x"}, "Extra inputs"),
    ],
)
def test_settings_that_make_no_sense_are_errors(name: str, config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        make(name, **config)
