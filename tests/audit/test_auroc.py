"""The area under the ROC curve, its interval, and the folds."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from subl.audit.auroc import FOLDS, assign_folds, auroc, cross_validated

labelled = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40).filter(
    lambda rows: 0 < sum(treated for treated, _ in rows) < len(rows)
)


@given(labelled)
def test_the_area_counts_pairs_and_its_influences_give_delongs_variance(rows: list[tuple[bool, int]]) -> None:
    treated, scores = (np.array(column) for column in zip(*rows, strict=True))
    area, influence = auroc(treated, scores.astype(float))
    ones, zeros = scores[treated], scores[~treated]
    psi = [[1.0 if one > zero else 0.5 if one == zero else 0.0 for zero in zeros] for one in ones]
    assert area == pytest.approx(np.mean(psi))
    # DeLong et al. (1988), equation 5 onwards, by structural components, with 1/n for 1/(n − 1).
    of_ones, of_zeros = np.mean(psi, axis=1), np.mean(psi, axis=0)
    variance = of_ones.var() / len(ones) + of_zeros.var() / len(zeros)
    assert (influence**2).mean() / len(rows) == pytest.approx(variance)
    assert influence[treated].sum() == pytest.approx(0, abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=30, max_size=200), st.integers(0, 9))
def test_groups_stay_whole_and_every_fold_has_both_arms(rows: list[tuple[int, bool]], seed: int) -> None:
    names, treated = (np.array(column) for column in zip(*rows, strict=True))
    groups = np.unique(names, return_inverse=True)[1]
    if min(len(set(names[treated])), len(set(names[~treated]))) < FOLDS:
        with pytest.raises(ValueError, match="each arm needs 5 groups"):
            assign_folds(groups, treated, seed)
        return
    fold = assign_folds(groups, treated, seed)
    assert all(len(set(fold[groups == group])) == 1 for group in set(groups))
    assert {(part, arm) for part, arm in zip(fold, treated, strict=True)} == {
        (part, arm) for part in range(FOLDS) for arm in (False, True)
    }


def test_the_interval_holds_the_true_area_of_two_normal_distributions() -> None:
    """Independent folds of one known classifier: without training, the correction only makes the interval wider."""
    truth, covered, plain = stats.norm.cdf(1 / math.sqrt(2)), 0, 0
    treated = np.arange(400) % 2 == 0
    fold, groups = np.arange(400) // 2 % FOLDS, np.arange(400)
    for seed in range(200):
        scores = np.random.default_rng(seed).normal(size=400) + treated
        found = cross_validated(treated, scores, fold, groups, "rows")
        assert found.low is not None
        assert found.high is not None
        half = (found.high - found.low) / 2 / math.sqrt(1 + FOLDS / (FOLDS - 1))
        covered += found.low <= truth <= found.high
        plain += abs(found.value - truth) <= half
    assert covered >= 196
    assert 180 <= plain <= 198, "the uncorrected interval is a 95 % one here"


def test_rows_of_a_group_that_agree_count_once() -> None:
    rng = np.random.default_rng(0)
    treated = np.tile([True, False], 100)
    scores, fold, groups = rng.normal(size=200), np.arange(200) // 2 % FOLDS, np.arange(200)
    once = cross_validated(treated, scores, fold, groups, "prompts")
    treated, scores, fold, groups = (np.repeat(part, 3) for part in (treated, scores, fold, groups))
    thrice = cross_validated(treated, scores, fold, groups, "prompts")
    assert (thrice.value, thrice.low, thrice.high) == pytest.approx((once.value, once.low, once.high))
    assert (once.n, thrice.n) == (200, 600)
    apart = cross_validated(treated, scores, fold, np.arange(600), "rows")
    assert apart.low is not None
    assert once.low is not None
    assert apart.low > once.low
