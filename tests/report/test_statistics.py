import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from subl.report.statistics import mean_over_runs, paired_difference

numbers = st.floats(-1e3, 1e3)


@given(st.lists(numbers, min_size=2, max_size=12).filter(lambda values: np.ptp(values) > 1e-6))
def test_the_interval_is_that_of_a_one_sample_t_test(values: list[float]) -> None:
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    found = mean_over_runs(values)
    assert found.low == pytest.approx(expected.low, rel=1e-9, abs=1e-9)
    assert found.high == pytest.approx(expected.high, rel=1e-9, abs=1e-9)
    assert found.n == len(values)
    assert found.interval == f"95 % t over {len(values)} runs"


def test_the_interval_over_two_runs_is_the_textbook_one() -> None:
    found = mean_over_runs([0.0, 2.0])
    assert found.value == 1.0
    assert found.high == pytest.approx(1 + 12.7062047362)  # t(0.975, 1), times a standard error of 1


def test_one_run_has_no_interval_and_none_no_value() -> None:
    assert mean_over_runs([0.5]) == (0.5, None, None, 1, None)
    assert math.isnan(mean_over_runs([]).value)


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=12).filter(lambda v: np.ptp(np.diff(v)) > 1e-6))
def test_a_paired_difference_is_a_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    values, references = zip(*pairs, strict=True)
    expected = stats.ttest_rel(values, references).confidence_interval(0.95)
    found = paired_difference(dict(enumerate(values)), dict(enumerate(references)))
    assert found.mean.low == pytest.approx(expected.low, rel=1e-6, abs=1e-6)
    assert found.mean.high == pytest.approx(expected.high, rel=1e-6, abs=1e-6)
    assert found.above + found.below + sum(d == 0 for d in found.differences.values()) == len(pairs)


def test_runs_are_paired_by_key_and_not_by_position() -> None:
    found = paired_difference({"seed=0": 1.0, "seed=1": 2.0}, {"seed=1": 0.5, "seed=0": 0.75})
    assert found.differences == {"seed=0": 0.25, "seed=1": 1.5}
    assert (found.above, found.below, found.unpaired) == (2, 0, ())


def test_runs_without_a_partner_and_without_a_value_are_named() -> None:
    found = paired_difference({"a": 1.0, "b": math.nan, "c": 3.0}, {"a": 0.5, "b": 1.0, "d": 1.0})
    assert found.differences == {"a": 0.5}
    assert found.unpaired == ("b", "c", "d")
    assert found.mean == (0.5, None, None, 1, None)


def test_no_pair_at_all_is_no_difference() -> None:
    found = paired_difference({"a": 1.0}, {"b": 1.0})
    assert math.isnan(found.mean.value)
    assert found.unpaired == ("a", "b")


def test_95_percent_of_the_intervals_hold_the_true_lift() -> None:
    random = np.random.default_rng(0)
    shared = random.normal(0, 1, (2000, 4))  # what a seed does to both arms
    main, control = (shared + random.normal(mean, 0.5, (2000, 4)) for mean in (0.3, 0.0))
    held = 0
    for values, references in zip(main, control, strict=True):
        mean = paired_difference(dict(enumerate(values)), dict(enumerate(references))).mean
        assert mean.low is not None
        assert mean.high is not None
        held += mean.low <= 0.3 <= mean.high
    assert 0.93 <= held / 2000 <= 0.97
