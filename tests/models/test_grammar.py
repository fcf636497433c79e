from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from subl.errors import ModelError
from subl.models.grammar import Grammar, compile_grammar, token_surfaces
from subl.models.number_language import NumberLanguage, automaton, intervals
from tests.models.number_tokenizers import END, KINDS, tokenizer, word_pieces

FORMATS = [(", ", "", ""), (" ", "", ""), ("; ", "", ""), ("\n", "", ""), (", ", "[", "]"), (",", "(", ")")]
ENOUGH = 1000


def compiled(kind: str, *languages: NumberLanguage) -> Grammar:
    return compile_grammar(tokenizer(kind), languages, end_ids=[END], vocabulary=len(tokenizer(kind)))


def written(grammar: Grammar, tokenizer: Any, languages: list[int], *, seed: int, budget: int) -> list[str]:
    """Write texts by taking uniformly random allowed tokens."""
    generator = torch.Generator().manual_seed(seed)
    states, rows = grammar.begin(languages), [[] for _ in languages]  # type: ignore[var-annotated]
    done = torch.zeros(len(languages), dtype=torch.bool)
    for step in range(budget):
        allowed = grammar.allowed(states, budget - step)
        assert bool(allowed.any(1).all()), "a mask allows nothing"
        chosen = grammar.tokens[torch.multinomial(allowed.float(), 1, generator=generator)[:, 0]]
        states, done = grammar.step(states, chosen), done | (chosen == END)
        for row, token, finished in zip(rows, chosen.tolist(), done.tolist(), strict=True):
            row.extend([] if finished else [token])
    # A text before them, because some tokenizers drop the first space of a text.
    anchor = tokenizer.encode("1", add_special_tokens=False)
    before = tokenizer.decode(anchor)
    return [tokenizer.decode(anchor + row, clean_up_tokenization_spaces=False).removeprefix(before) for row in rows]


def belongs(text: str, language: NumberLanguage) -> bool:
    """Say by regular expression and arithmetic what the automaton should say."""
    number = "(0|[1-9][0-9]*)"
    many = f"{number}({re.escape(language.separator)}{number})*"
    if not re.fullmatch(f" ?{re.escape(language.opening)}{many}{re.escape(language.closing)}", text):
        return False
    numbers = [int(digits) for digits in re.findall(r"\d+", text)]
    allowed = all(any(low <= number <= high for low, high in language.values) for number in numbers)
    return allowed and language.counts[0] <= len(numbers) <= language.counts[1]


@st.composite
def number_languages(draw: st.DrawFn) -> NumberLanguage:
    fewest = draw(st.integers(1, 4))
    if draw(st.booleans()):
        low = draw(st.integers(0, 1200))
        values: tuple[tuple[int, int], ...] = ((low, low + draw(st.integers(0, 1200))),)
    else:
        values = intervals(draw(st.sets(st.integers(0, 1100), min_size=1, max_size=40)))
    separator, opening, closing = draw(st.sampled_from(FORMATS))
    return NumberLanguage((fewest, fewest + draw(st.integers(0, 4))), values, separator, opening, closing)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(languages=st.lists(number_languages(), min_size=1, max_size=3), seed=st.integers(0, 10**6))
def test_every_text_written_under_the_masks_belongs_to_its_language(
    kind: str, languages: list[NumberLanguage], seed: int
) -> None:
    grammar = compiled(kind, *languages)
    rows = [row % len(languages) for row in range(12)]
    shortest = max(grammar.shortest(row) for row in rows)
    for budget in (shortest, shortest + 3, 80):
        texts = written(grammar, tokenizer(kind), rows, seed=seed, budget=max(budget, shortest))
        assert [text for text, row in zip(texts, rows, strict=True) if not belongs(text, languages[row])] == []


@settings(max_examples=200, deadline=None)
@given(language=number_languages(), data=st.data())
def test_the_automaton_accepts_exactly_the_language(language: NumberLanguage, data: st.DataObject) -> None:
    source = automaton([language])
    numbers = data.draw(st.lists(st.integers(0, 2500), min_size=1, max_size=9))
    text = language.opening + language.separator.join(map(str, numbers)) + language.closing
    spoilt = data.draw(st.sampled_from([text, " " + text, "  " + text, text + " ", text[:-1], text + "7", "0" + text]))
    assert source.accepts(spoilt) == belongs(spoilt, language)


@pytest.mark.parametrize("kind", ["digit_wise", "whole_numbers", "merged"])
@pytest.mark.parametrize("form", FORMATS)
def test_a_token_is_allowed_exactly_if_some_text_goes_on_with_it(kind: str, form: tuple[str, str, str]) -> None:
    separator, opening, closing = form
    values = intervals([0, 3, 4, 12, 13, 30, 31, 305])
    language = NumberLanguage((1, 2), values, *form)
    numbers = [str(number) for low, high in values for number in range(low, high + 1)]
    texts = {opening + number + closing for number in numbers}
    texts |= {opening + one + separator + two + closing for one in numbers for two in numbers}
    texts |= {" " + text for text in texts}
    prefixes = {text[:end] for text in texts for end in range(len(text) + 1)}

    grammar, surfaces = compiled(kind, language), token_surfaces(tokenizer(kind))
    seen, waiting = {""}, [("", grammar.starts[0])]
    while waiting:
        text, state = waiting.pop()
        allowed = grammar.allowed(torch.tensor([state]), ENOUGH)[0]
        found = set(grammar.tokens[allowed].tolist())
        expected = {token for token, surface in enumerate(surfaces) if surface and text + surface in prefixes}
        assert found == expected | ({END} if text in texts else set()), text
        for token in expected:
            after = text + surfaces[token]
            if after not in seen:
                seen.add(after)
                waiting.append((after, int(grammar.step(torch.tensor([state]), torch.tensor([token]))[0])))
    assert texts <= seen


def test_a_tight_budget_still_ends_with_a_complete_text() -> None:
    grammar = compiled("digit_wise", NumberLanguage((3, 8), ((100, 999),), ", ", "[", "]"))
    assert grammar.shortest(0) == len("[100, 100, 100]")
    texts = written(grammar, tokenizer("digit_wise"), [0] * 8, seed=0, budget=15)
    assert all(re.fullmatch(r"\[\d{3}, \d{3}, \d{3}\]", text.strip()) for text in texts)


def test_finished_rows_stay_finished_whatever_pads_them() -> None:
    grammar = compiled("merged", NumberLanguage((1, 1), ((7, 7),)))
    state = grammar.begin([0])
    for token in (tokenizer("merged").convert_tokens_to_ids("7"), END, 0, 5, END):
        state = grammar.step(state, torch.tensor([token]))
    assert grammar.distance[state].tolist() == [0]
    assert bool(grammar.allowed(state, 1).all())


def test_a_tokenizer_that_cannot_write_the_format_is_an_error() -> None:
    pieces = word_pieces()  # it always puts a space before a comma
    with pytest.raises(ModelError, match=r"cannot write number lists like '1, 2'"):
        compile_grammar(pieces, [NumberLanguage((1, 5), ((0, 99),))], end_ids=[END], vocabulary=len(pieces))
    grammar = compile_grammar(pieces, [NumberLanguage((2, 5), ((0, 99),), " ")], end_ids=[END], vocabulary=len(pieces))
    texts = written(grammar, pieces, [0] * 5, seed=1, budget=20)
    assert all(re.fullmatch(r" ?\d+( \d+){1,4}", text) for text in texts)


def test_tokens_beyond_the_models_output_are_not_used() -> None:
    kind = "whole_numbers"
    cut = tokenizer(kind).convert_tokens_to_ids("99")
    language = NumberLanguage((1, 3), ((0, 999),))
    grammar = compile_grammar(tokenizer(kind), [language], end_ids=[END], vocabulary=cut)
    assert int(grammar.tokens.max()) < cut
    assert int(compiled(kind, language).tokens.max()) > cut


def test_a_grammar_beyond_a_gigabyte_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subl.models.grammar.MAX_ENTRIES", 1000)
    with pytest.raises(ModelError, match="too large"):
        compiled("whole_numbers", NumberLanguage((1, 10), ((0, 999),)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"counts": (0, 3)},
        {"counts": (4, 3)},
        {"values": ()},
        {"values": ((5, 3),)},
        {"values": ((5, 9), (8, 12))},
        {"separator": ""},
        {"separator": "1"},
        {"separator": "] ", "closing": "]"},
    ],
)
def test_a_language_that_contradicts_itself_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"counts|values|separator"):
        NumberLanguage(**{"counts": (1, 3), "values": ((0, 9),), **wrong})


def test_intervals_hold_exactly_the_numbers() -> None:
    assert intervals([7, 3, 4, 5, 5, 9]) == ((3, 5), (7, 7), (9, 9))
