"""Tests of paired differences: against scipy, closed forms and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from subl.report.evidence import (
    EXACT_PAIRS,
    SAMPLED_FLIPS,
    benjamini_hochberg,
    detectable,
    holm,
    paired_t,
    sign_flips,
    sign_test,
    standardised,
    weigh,
)

EXPERIMENTS = 2000
few = settings(max_examples=40, deadline=None)
spread = st.lists(st.floats(-10, 10), min_size=3, max_size=8).filter(lambda values: np.std(values) > 1e-3)


@given(spread)
@few
def test_every_p_is_the_one_that_scipy_gives(values: list[float]) -> None:
    array = np.round(values, 3)
    found = weigh(list(array))
    signs = array[array != 0]
    assert found.t == pytest.approx(stats.ttest_1samp(array, 0).pvalue, rel=1e-9)
    flips = stats.permutation_test([array.tolist()], np.mean, permutation_type="samples", n_resamples=1000)
    assert found.flip == pytest.approx(flips.pvalue)
    assert found.sign == pytest.approx(stats.binomtest(int((signs > 0).sum()), len(signs)).pvalue if len(signs) else 1)
    assert found.least_flip == 2.0 ** (1 - len(values))


def test_many_experiments_at_once_are_the_same_as_one_by_one() -> None:
    table = np.random.default_rng(1).normal(0.3, 1, (5, 6))
    for test in (paired_t, sign_flips, sign_test, standardised):
        assert test(table) == pytest.approx([float(test(row)) for row in table])


def test_five_pairs_with_one_sign_can_reach_a_sixteenth_only() -> None:
    found = weigh([0.2, 0.3, 0.1, 0.25, 0.3])
    assert (found.flip, found.least_flip, found.sign) == (1 / 16, 1 / 16, 1 / 16)


def test_the_standardised_effect_is_paired_and_corrected_for_few_pairs() -> None:
    # Mean 2, standard deviation 1; Hedges' factor for 2 degrees of freedom is Γ(1) / (√1 · Γ(1/2)) = 1/√π.
    assert weigh([1.0, 2.0, 3.0]).effect == pytest.approx(2 / math.sqrt(math.pi))
    random = np.random.default_rng(2).normal(0.8, 1, (40_000, 5))
    assert standardised(random).mean() == pytest.approx(0.8, abs=0.02), "Hedges' correction removes the bias"


def test_too_few_pairs_give_no_number_instead_of_an_invented_one() -> None:
    one, none = weigh([0.4]), weigh([])
    assert [math.isnan(value) for value in (one.t, one.effect, one.detectable)] == [True] * 3
    assert (one.flip, one.pairs) == (1.0, 1)
    assert all(math.isnan(value) for value in (none.t, none.flip, none.sign, none.effect, none.detectable))
    assert math.isnan(weigh([0.1, 0.2]).effect)


def test_differences_without_spread_say_nothing_of_their_spread() -> None:
    same, nothing = weigh([0.5] * 4), weigh([0.0, 1e-17, -1e-17])
    assert math.isnan(same.t)
    assert math.isnan(same.detectable)
    assert same.flip == 1 / 8
    assert math.isnan(weigh([0.1 + 0.2, 0.3, 0.3]).t), "equal but for rounding"
    assert (nothing.t, nothing.flip, nothing.sign) == (1.0, 1.0, 1.0)
    assert math.isnan(nothing.effect)


def test_beyond_the_exact_limit_flips_are_sampled_and_close_to_exact() -> None:
    values = np.random.default_rng(3).normal(0.35, 1, EXACT_PAIRS + 3)
    patterns = 1 - 2 * ((np.arange(2 ** len(values))[:, None] >> np.arange(len(values))) & 1)
    exact = np.mean(np.abs(patterns @ values) >= abs(values.sum()) - 1e-12)
    assert sign_flips(values) == pytest.approx(exact, abs=0.01)
    assert weigh([1.0] * 30).flip == weigh([1.0] * 30).least_flip == 1 / (SAMPLED_FLIPS + 1)


def test_false_positives_of_every_test_are_at_most_six_percent() -> None:
    random = np.random.default_rng(4)
    table = random.normal(0, 1, (EXPERIMENTS, 1)) * random.uniform(0.5, 2, (EXPERIMENTS, 1))  # what a seed does…
    pairs = table + random.normal(0, 1, (EXPERIMENTS, 8)) - table  # … is gone in the pairs
    for test in (paired_t, sign_flips, sign_test):
        assert (test(pairs) < 0.05).mean() <= 0.06


def test_pairs_that_are_not_normal_still_keep_the_level_of_the_permutation_test() -> None:
    random = np.random.default_rng(5)
    heavy = random.standard_t(1.5, (EXPERIMENTS, 9))
    assert 0.03 <= (sign_flips(heavy) <= 0.05).mean() <= 0.06


@pytest.mark.parametrize("pairs", [3, 5, 10])
def test_the_detectable_lift_is_found_in_four_of_five_experiments(pairs: int) -> None:
    random = np.random.default_rng(pairs)
    lift = detectable(1.0, pairs)
    found = paired_t(random.normal(lift, 1.0, (4 * EXPERIMENTS, pairs))) < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.015)
    assert detectable(2.0, pairs) == pytest.approx(2 * lift)


def test_a_family_of_tests_detects_larger_lifts_only() -> None:
    random = np.random.default_rng(9)
    lift = weigh([0.0, 1.0, 2.0, 3.0, 4.0], family=4).detectable / np.std(range(5), ddof=1)
    found = paired_t(random.normal(lift, 1.0, (4 * EXPERIMENTS, 5))) < 0.05 / 4
    assert found.mean() == pytest.approx(0.8, abs=0.015)


def test_the_detectable_lift_is_that_of_power_tables() -> None:
    # Cohen (1988): 34 pairs find d = 0.5 with 80 % power at the two-sided 5 % level; 15 pairs find 0.78.
    assert detectable(1.0, 34) == pytest.approx(0.495, abs=0.003)
    assert detectable(1.0, 15) == pytest.approx(0.778, abs=0.003)


def test_holm_is_the_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=12))
@few
def test_benjamini_hochberg_is_that_of_scipy(p_values: list[float]) -> None:
    assert benjamini_hochberg(p_values) == pytest.approx(stats.false_discovery_control(p_values))


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_what_was_not_tested_is_no_member_of_the_family(adjust: object) -> None:
    assert callable(adjust)
    found = adjust([0.02, math.nan, 0.04])
    assert math.isnan(found[1])
    assert [found[0], found[2]] == pytest.approx(adjust([0.02, 0.04]))
    assert adjust([]) == []
    assert adjust([0.7, 0.9]) == pytest.approx([1.0, 1.0] if adjust is holm else [0.9, 0.9])


def test_holm_keeps_the_family_at_its_level_and_bh_the_false_discoveries() -> None:
    random = np.random.default_rng(6)
    p_values = paired_t(random.normal(0, 1, (EXPERIMENTS, 5, 6)))
    some = [min(holm(list(family))) < 0.05 for family in p_values[:600]]
    assert np.mean(some) <= 0.06
    lifts = np.array([0.0, 0.0, 0.0, 3.0, 3.0])[:, None]
    mixed = [benjamini_hochberg(list(f)) for f in paired_t(lifts + random.normal(0, 1, (600, 5, 6)))]
    false = [sum(q < 0.05 for q in family[:3]) / max(1, sum(q < 0.05 for q in family)) for family in mixed]
    assert np.mean(false) <= 0.05


def test_the_exact_test_tries_every_pattern_of_signs() -> None:
    values = [0.4, -0.1, 0.3, 0.2]
    means = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in itertools.product((1, -1), repeat=4)
    ]
    assert weigh(values).flip == pytest.approx(np.mean([mean >= sum(values) - 1e-12 for mean in means]))
