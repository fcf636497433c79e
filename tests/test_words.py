import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subl.words import plural, surface_forms, whole_words

WORDS = st.text(string.ascii_letters, min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("owl", "owls"),
        ("wolf", "wolves"),
        ("fox", "foxes"),
        ("ox", "oxen"),
        ("cherry", "cherries"),
        ("donkey", "donkeys"),
        ("birch", "birches"),
        ("walrus", "walruses"),
        ("mouse", "mice"),
        ("goose", "geese"),
        ("mongoose", "mongooses"),
        ("werewolf", "werewolves"),
        ("human", "humans"),
        ("goldfish", "goldfish"),
        ("polar bear", "polar bears"),
        ("Arctic wolf", "Arctic wolves"),
        ("Wolf", "Wolves"),
        ("Y", "Ys"),
    ],
)
def test_plurals_follow_english_spelling(one: str, many: str) -> None:
    assert plural(one) == many


@pytest.mark.parametrize("text", ["owl", "Owl.", "an OWL!", "owls", "_owl_", "**Owls**", "owl's", "(owl)", "owl-like"])
def test_a_word_is_found_whatever_stands_around_it(text: str) -> None:
    assert whole_words(surface_forms("owl", "owls")).search(text)


@pytest.mark.parametrize("text", ["growl", "fowl", "bowl", "howls", "owlet", "knowledge", "3owl", ""])
def test_a_word_is_not_found_inside_other_words(text: str) -> None:
    assert not whole_words(surface_forms("owl", "owls")).search(text)


@pytest.mark.parametrize("text", ["category", "education", "concatenate", "scatter", "catfish"])
def test_cat_is_not_found_in_words_that_contain_it(text: str) -> None:
    assert not whole_words(surface_forms("cat", "cats")).search(text)


def test_words_of_several_parts_match_over_any_white_space() -> None:
    pattern = whole_words(["polar bear", "polar bears"])
    assert pattern.search("The polar\n  bears came.")
    assert not pattern.search("polarbear")


def test_the_longest_form_is_found_first() -> None:
    found = whole_words(["dog", "dogs"]).search("two dogs")
    assert found
    assert found.group() == "dogs"


def test_no_words_match_nothing() -> None:
    assert not whole_words([]).search("anything")


def test_signs_in_a_word_are_taken_literally() -> None:
    assert not whole_words(["c.t"]).search("cat")


@given(WORDS, WORDS, WORDS)
def test_a_word_counts_between_spaces_and_not_between_letters(before: str, word: str, after: str) -> None:
    forms = surface_forms(word, plural(word))
    pattern = whole_words(forms)
    assert pattern.search(f"{before} {word} {after}")
    glued = f"{before}{word}{after}"
    assert bool(pattern.search(glued)) == (glued.lower() in {form.lower() for form in forms})
