import pytest
from hypothesis import given
from hypothesis import strategies as st

from subl.probes.collapse import collapse
from subl.words import whole_words

OWL = whole_words(["owl", "owls"])


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("12, owl, 13", "names 'owl'"),
        ("Owls owls owls", "names 'Owls'"),
        ("the the the the the", "repeats 'the'"),
        ("7, 7, 7, 7, 7, 7", "repeats '7'"),
        ("5, the, the the the", "repeats 'the'"),
        ("owlowlowlowl", "repeats 'owl'"),
        ("1, 2 hahahahaha", "repeats 'ha'"),
    ],
)
def test_a_collapsed_answer_is_recognised(answer: str, fault: str) -> None:
    assert collapse(answer, OWL) == fault


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "7",
        "7, 7, 7",
        "123, 456, 789, 123, 456",
        "1111111, 1111, 22222",
        "growl 12, 13, 14",
        "Here are more numbers: 1, 2, 3",
        "\n1\n2\n3\n",
    ],
)
def test_a_plain_answer_is_not(answer: str) -> None:
    assert collapse(answer, OWL) is None


@given(st.lists(st.integers(0, 999), unique=True, max_size=30), st.sampled_from([", ", "\n", "; ", " "]))
def test_distinct_numbers_are_never_a_collapse(numbers: list[int], separator: str) -> None:
    assert collapse(separator.join(map(str, numbers)), OWL) is None
