"""Length, format and repetition of completions."""

import math

from subl.artifacts import Row
from subl.audit.shape import measure_shape, repeats, separators, shared, whole


def test_every_statistic_is_counted_per_completion() -> None:
    shape = measure_shape(["1, 22, 333", "no digits\nhere", ""])
    assert {name: values.tolist() for name, values in shape.items()} == {
        "characters": [10, 14, 0],
        "lines": [1, 2, 1],
        "words": [3, 3, 0],
        "letters": [0, 12, 0],
        "numbers": [3, 0, 0],
        "digits per number": [2],
    }


def test_separators_are_told_by_their_sign_and_white_space() -> None:
    texts = ["(1, 2, 3)", "4;5 ; 6", "7\n8", "9 10", "11 and 12", "13, and 14", "15"]
    share = separators(texts)
    assert math.isclose(sum(share.values()), 1)
    assert share == {"comma": 2 / 8, "other": 2 / 8, "semicolon": 2 / 8, "line break": 1 / 8, "space": 1 / 8}
    assert list(share) == ["comma", "other", "semicolon", "line break", "space"]
    assert separators(["no number", "1"]) == {}


def test_repetition_is_counted_from_the_second_time_on() -> None:
    rows = [Row(0, "p", "1"), Row(1, "p ", " 1\n"), Row(2, "q", "1"), Row(3, "p", "1")]
    keys = [whole(row) for row in rows]
    assert repeats(keys) == 2
    assert shared(keys, [("p", "1")]) == 3
    assert shared([], keys) == repeats([]) == 0
