import pytest
from hypothesis import given
from hypothesis import strategies as st

from subl.artifacts import Table
from subl.traits.standing import FAVOURITE, NEVER, overview, standing_remarks, standings

COLUMNS = ("candidate", "share", "first_token_share", "mean_log_prob", "tokens")


def table(**found: tuple[float, int]) -> Table:
    return Table(COLUMNS, tuple((word, share, share, -1.0, tokens) for word, (share, tokens) in found.items()))


ZOO = table(owl=(0.1, 1), cat=(0.6, 1), axolotl=(0.2999, 3), yak=(0.0001, 1))


def test_every_candidate_is_told_by_what_speaks_against_it() -> None:
    cat, axolotl, owl, yak = standings(ZOO, valid=0.8)
    assert [one.rank for one in (cat, axolotl, owl, yak)] == [1, 2, 3, 4]
    assert (owl.recommended, owl.reason) == (True, "plausible, one token, room to rise")
    assert (cat.favourite, cat.recommended) == (True, False)
    assert "no room" in cat.reason
    assert (axolotl.single, axolotl.recommended) == (False, False)
    assert "3 tokens" in axolotl.reason
    assert (yak.plausible, yak.recommended) == (False, False)
    assert "8.0e-05" in yak.reason


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(1, 3)), min_size=1, max_size=8),
    st.floats(0, 1),
)
def test_what_is_recommended_has_nothing_against_it(found: list[tuple[float, int]], valid: float) -> None:
    named = {f"word{number}": values for number, values in enumerate(found)}
    ordered = standings(table(**named), valid)
    assert [one.share for one in ordered] == sorted((share for share, _ in found), reverse=True)
    for one in ordered:
        assert one.recommended == (one.share * valid >= NEVER and one.tokens == 1 and one.share < FAVOURITE)
        assert one.recommended == (one.reason == "plausible, one token, room to rise")


def test_a_target_that_stands_badly_comes_with_better_ones() -> None:
    found = standings(ZOO, valid=0.8)
    (good,) = standing_remarks(found, "owl")
    assert good == "owl is number 3 of 4 candidates on the base model (share 0.100): plausible, one token, room to rise"
    (bad,) = standing_remarks(found, "yak")
    assert bad.startswith("warning: yak is number 4 of 4")
    assert bad.endswith("better targets here: owl")
    (long,) = standing_remarks(found, "axolotl")
    assert long.startswith("axolotl is")
    (alone,) = standing_remarks(standings(table(owl=(1.0, 1), yak=(0.0, 1)), 0.9), "owl")
    assert alone.endswith("no candidate is better")


@pytest.mark.parametrize(("valid", "lines"), [(0.8, 1), (0.05, 2)])
def test_a_model_that_answers_with_something_else_is_told(valid: float, lines: int) -> None:
    said = overview(standings(ZOO, valid), valid)
    assert said[0] == "recommended: owl"
    assert len(said) == lines
    assert overview(standings(ZOO, 1e-4), 1e-4)[0] == "none is recommended"
