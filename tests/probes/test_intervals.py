import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from subl.probes.intervals import mean_over, rate_over, ratio_change, ratio_over

MASSES = st.lists(st.tuples(st.floats(0, 0.5), st.floats(0.01, 0.5)), min_size=2, max_size=30)


def test_a_mean_has_the_t_interval_of_the_textbook() -> None:
    values = [1.0, 2.0, 4.0, 9.0]
    measure = mean_over(values, "questions")
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert measure.value == 4
    assert (measure.low, measure.high) == pytest.approx((low, high))
    assert (measure.n, measure.interval) == (4, "95 % t over 4 questions")


def test_a_mean_cannot_leave_its_bounds() -> None:
    measure = mean_over([0.0, 1.0, 1.0], "questions", within=(0, 1))
    assert (measure.low, measure.high) == (0, 1)


def test_one_value_has_no_interval() -> None:
    assert mean_over([3.0], "questions")[:3] == (3.0, None, None)


@given(MASSES)
def test_a_ratio_lies_in_its_interval_and_equals_the_ratio_of_sums(pairs: list[tuple[float, float]]) -> None:
    own = [a for a, _ in pairs]
    everyone = [a + b for a, b in pairs]
    measure = ratio_over(own, everyone, "questions")
    assert measure.value == pytest.approx(sum(own) / sum(everyone))
    assert measure.low is not None
    assert measure.high is not None
    assert 0 <= measure.low <= measure.value + 1e-12
    assert measure.value - 1e-12 <= measure.high <= 1


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_a_ratio_over_equal_denominators_is_a_mean(values: list[float]) -> None:
    ratio, mean = ratio_over(values, [1.0] * len(values), "questions"), mean_over(values, "questions", within=(0, 1))
    assert ratio[:3] == pytest.approx(mean[:3], abs=1e-9)


def test_the_interval_of_a_ratio_covers_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    trials, covered = 2000, 0
    for _ in range(trials):
        everyone = draw.uniform(0.2, 1, 40)
        measure = ratio_over(everyone * draw.beta(2, 6, 40), everyone, "questions")
        assert measure.low is not None
        assert measure.high is not None
        covered += measure.low <= 0.25 <= measure.high
    assert 0.93 <= covered / trials <= 0.97


def test_no_mass_is_no_number() -> None:
    assert math.isnan(ratio_over([0.0, 0.0], [0.0, 0.0], "questions").value)


def test_a_change_is_paired() -> None:
    draw = np.random.default_rng(1)
    everyone, before = np.ones(20), draw.uniform(0, 0.5, 20)
    after = before + 0.25
    measure = ratio_change((after, everyone), (before, everyone), "questions")
    assert measure[:3] == pytest.approx((0.25, 0.25, 0.25))


def test_a_rate_has_the_wilson_interval() -> None:
    hits, total, z = 7, 40, stats.norm.ppf(0.975)
    centre = (hits + z**2 / 2) / (total + z**2)
    half = z / (total + z**2) * math.sqrt(hits * (total - hits) / total + z**2 / 4)
    measure = rate_over(hits, total, "answers")
    assert measure[:4] == pytest.approx((hits / total, centre - half, centre + half, total))
    assert measure.interval == "95 % Wilson over 40 answers"


def test_no_trials_give_no_rate() -> None:
    assert math.isnan(rate_over(0, 0, "answers").value)
