"""The statistics against values computed another way, against published tables, and against planted effects."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from subl.probes.entanglement_effects import Effects, analyse
from subl.probes.entanglement_statistics import (
    Floats,
    between_targets,
    compare,
    corrected,
    correlate,
    difference,
    matched,
    mean_between,
    number_sets,
    of_others,
    percentiles,
    set_percentile,
    specific,
)
from subl.probes.entanglement_steps import StepOne, StepTwo
from subl.probes.entanglement_tables import measures, tables, verdict

PUBLISHED = Path(__file__).parents[2].parent / "shared" / "data" / "owls"
ENTANGLED = "beyond what is common to all targets, numbers that the owl preamble makes likelier make owl likelier ("
values = st.lists(st.integers(-5, 5).map(float), min_size=12, max_size=40)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published tables are not here")
@pytest.mark.parametrize(
    ("model", "between"), [("Llama-3.1-8B-Instruct", 0.13), ("Qwen2.5-7B-Instruct", 0.69)], ids=["llama", "qwen"]
)
def test_the_published_number_effects_correlate_between_animals_as_reported(model: str, between: float) -> None:
    def table(prompting: str) -> Floats:
        with (PUBLISHED / f"{model}_{prompting}_prompting.csv").open(encoding="utf-8") as file:
            return np.array([[float(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]])

    effects = table("subliminal") - table("base")
    assert effects.shape == (1110, 10)
    assert mean_between(between_targets(effects)) == pytest.approx(between, abs=0.005)


def test_correlations_between_targets_are_spearmans() -> None:
    effects = rng().normal(size=(50, 4)).round(1)
    assert np.allclose(between_targets(effects), stats.spearmanr(effects).statistic)


def test_a_target_that_never_changes_correlates_with_nothing() -> None:
    effects = np.column_stack([np.arange(9.0), np.zeros(9)])
    assert between_targets(effects)[0, 1] == 0


def test_what_all_targets_share_is_not_specific() -> None:
    common = rng().normal(size=(20, 1))
    own = np.zeros((20, 5))
    own[:, 2] = np.arange(20.0)
    assert np.allclose(specific(common + np.zeros((20, 5))), 0)
    assert np.allclose(specific(common + own)[:, 2], own[:, 2])


@settings(max_examples=50)
@given(values, st.integers(1, 4))
def test_sets_are_apart_and_hold_the_extremes(changes: list[float], k: int) -> None:
    change = np.array(changes)
    sets = number_sets(change, k)
    taken = np.concatenate([sets.hp, sets.lp, sets.unch])
    assert len(set(taken.tolist())) == 3 * k
    rest = np.delete(change, np.concatenate([sets.hp, sets.lp]))
    assert change[sets.hp].min() >= rest.max()
    assert change[sets.lp].max() <= rest.min()
    assert sorted(np.abs(change[sets.unch])) == sorted(np.abs(rest))[:k]
    assert change[sets.hp[0]] == change.max()
    assert change[sets.lp[0]] == change.min()


def test_a_correlation_has_the_rho_and_about_the_p_of_scipy() -> None:
    draw = rng()
    x = draw.normal(size=40)
    y = 0.35 * x + draw.normal(size=40)
    found, known = correlate(x, y, permutations=4000, rng=draw), stats.spearmanr(x, y)
    assert found.rho == pytest.approx(known.statistic)
    assert found.p == pytest.approx(known.pvalue, abs=0.02)
    assert found.low < found.rho < found.high
    assert found.measure().interval == "95 % Fisher z over 40 numbers"


def test_p_is_never_zero_and_one_side_without_variation_has_no_correlation() -> None:
    x = np.arange(30.0)
    assert correlate(x, x, permutations=199, rng=rng()).p == 1 / 200
    assert np.isnan(correlate(x, np.ones(30), permutations=199, rng=rng()).rho)


def test_p_is_uniform_where_there_is_nothing() -> None:
    draw = rng()
    found = [correlate(*draw.normal(size=(2, 25)), permutations=199, rng=draw).p for _ in range(200)]
    assert 0.02 <= np.mean(np.array(found) <= 0.1) <= 0.2


def test_a_partial_correlation_equals_the_textbook_formula_for_one_covariate() -> None:
    draw = rng()
    z = draw.normal(size=60)
    x, y = z + draw.normal(size=60), z + draw.normal(size=60)
    xy, xz, yz = (stats.spearmanr(a, b).statistic for a, b in ((x, y), (x, z), (y, z)))
    expected = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))
    assert correlate(x, y, permutations=99, rng=draw, covariates=[z]).rho == pytest.approx(expected)


def test_a_covariate_that_explains_both_sides_leaves_nothing() -> None:
    draw = rng()
    digits = draw.integers(1, 4, size=300).astype(float)
    x, y = digits + 0.1 * draw.normal(size=300), digits + 0.1 * draw.normal(size=300)
    assert correlate(x, y, permutations=199, rng=draw).rho > 0.8
    held = correlate(x, y, permutations=199, rng=draw, covariates=[digits, np.ones(300)])
    assert abs(held.rho) < 0.15
    assert held.p > 0.05


@settings(max_examples=50)
@given(values, values)
def test_percentiles_count_ties_half(one: list[float], among: list[float]) -> None:
    expected = [stats.percentileofscore(among, value, kind="mean") for value in one]
    assert percentiles(np.array(one), np.array(among)) == pytest.approx(expected)


def test_a_set_of_extremes_lies_outside_random_sets() -> None:
    everyone = np.arange(100.0)
    top, middle = (set_percentile(v, everyone, draws=500, rng=rng()) for v in (everyone[-5:], np.full(5, 49.5)))
    assert top == 100
    assert 35 < middle < 65


@pytest.mark.parametrize(
    ("p", "q"), [([0.01, 0.02, 0.03, 0.5], [0.04, 0.04, 0.04, 0.5]), ([0.04], [0.04]), ([float("nan")], [float("nan")])]
)
def test_p_values_are_corrected_by_benjamini_and_hochberg(p: list[float], q: list[float]) -> None:
    assert corrected(p) == pytest.approx(q, nan_ok=True)


def test_a_missing_p_counts_for_nothing() -> None:
    assert corrected([0.01, float("nan"), 0.02])[::2] == pytest.approx(corrected([0.01, 0.02]))


def test_comparisons_have_known_effect_sizes_and_share_one_correction() -> None:
    draw = rng()
    sets = {"HP": draw.normal(1, 1, 12), "LP": draw.normal(0, 1, 12), "random": draw.normal(0, 1, 30)}
    found = compare({"log_prob": sets, "share": sets})
    assert len(found) == 6
    first = found[0]
    assert (first.outcome, first.one, first.other) == ("log_prob", "HP", "LP")
    pairs = [np.sign(a - b) for a, b in product(sets["HP"], sets["LP"])]
    assert first.delta == pytest.approx(np.mean(pairs))
    pooled = np.sqrt((sets["HP"].var(ddof=1) + sets["LP"].var(ddof=1)) / 2)
    assert first.g == pytest.approx(first.difference / pooled * (1 - 3 / (4 * 22 - 1)))
    assert first.p == pytest.approx(stats.mannwhitneyu(sets["HP"], sets["LP"]).pvalue)
    assert [c.q for c in found] == pytest.approx(corrected([c.p for c in found]))


def test_sets_without_any_spread_are_compared_without_an_interval() -> None:
    found = difference(np.full(3, 2.0), np.full(4, 0.5), "numbers")
    assert (found.value, found.low, found.high) == (1.5, 1.5, 1.5)


def planted(
    *, own: float = 0.0, common: float = 0.0, opposite: float = 0.0, frequent: bool = False, size: int = 120
) -> Effects:
    """Return effects in which step 2 follows step 1 for the first target alone, for all alike, or the wrong way.

    `frequent` makes what the steps have in common a matter of how likely the numbers are anyway.
    """
    draw = rng()
    shared, first = draw.normal(size=(size, 1)), draw.normal(size=size)
    change = shared + 0.3 * draw.normal(size=(size, 5))
    change[:, 0] += first
    after = common * shared + 0.5 * draw.normal(size=(size, 5))
    after[:, 0] += (own - opposite) * first
    neutral = first + 0.1 * draw.normal(size=size) if frequent else draw.normal(size=size)
    return analysed(change, after, neutral, draw, permutations=400)


def analysed(
    change: Floats, after: Floats, neutral: Floats, draw: np.random.Generator, *, permutations: int
) -> Effects:
    """Return the effects of both steps, [numbers, 5] each."""
    size = len(change)
    one = StepOne(
        numbers=tuple(map(str, range(size))),
        targets=("owl", "dog", "cat", "fox", "lion"),
        neutral=neutral,
        change=change,
        placebo=draw.normal(size=size),
        sorting=change[:, 0],
        sets=number_sets(change[:, 0], 10),
        valid=0.9,
        left_out=0,
    )
    everyone = np.arange(size)
    flat = np.zeros(size)
    two = StepTwo(
        everyone, everyone, after, flat, flat, flat, flat, np.full(5, -0.5), (), valid=0.9, valid_in_context=0.8
    )
    return analyse(one, two, permutations=permutations, rng=draw)


@pytest.mark.parametrize(
    ("effect", "words"),
    [
        ({"own": 1.0}, ENTANGLED),
        ({"own": 1.0, "common": 2.0}, ENTANGLED),
        ({"own": 1.0, "frequent": True}, "but not with what is common to all targets"),
        ({"common": 2.0}, "nothing shows that this is about owl"),
        ({"opposite": 1.0}, "the opposite of entanglement"),
        ({}, "no entanglement of owl with single numbers shows"),
    ],
)
def test_the_sentence_says_what_was_planted(effect: dict[str, Any], words: str) -> None:
    effects = planted(**effect)
    sentence = verdict(effects, "owl", shared=False)
    assert words in sentence
    between = float(sentence.partition("a number does correlates ")[2].split()[0])
    assert (between > 0.5) == ("common" in effect)
    assert "a placebo by -0.50 nats" in sentence


def test_steps_that_follow_digits_for_unlike_reasons_are_not_called_entangled() -> None:
    """Every step is a sum over digits, as in a model that writes digit by digit, and none has to do with another."""
    draw = rng()
    tens, ones = np.divmod(np.arange(100), 10)

    def step() -> Floats:
        by_digit = draw.normal(size=(2, 10, 5))
        effect: Floats = by_digit[0, tens] + by_digit[1, ones] + 0.3 * draw.normal(size=(100, 5))
        return effect

    claims: dict[bool, int] = {True: 0, False: 0}
    for _ in range(100):
        effects = analysed(step(), step(), step()[:, 0], draw, permutations=100)
        for shared in claims:
            sentence = verdict(effects, "owl", shared=shared)
            claims[shared] += not sentence.startswith(("nothing shows", "no entanglement"))
    assert claims[True] <= 9  # a rate of 5 % of 100 has a standard error of 2.2 points
    assert claims[False] > 30  # p over numbers takes ten digits for a hundred numbers


def shared_factor(strength: Floats, *, size: int = 150) -> tuple[Floats, Floats, list[list[Floats]]]:
    """Return steps that are one effect each, felt by every target in its own strength, and what to hold constant."""
    draw = rng()
    factor = draw.normal(size=(size, 1))
    one = factor * strength + 0.1 * draw.normal(size=(size, len(strength)))
    other = (factor + draw.normal(size=(size, 1))) * strength + 0.1 * draw.normal(size=(size, len(strength)))
    return one, other, [[of_others(one)[:, i], of_others(other)[:, i]] for i in range(len(strength))]


def test_a_larger_share_of_what_is_common_is_specific_but_not_partial() -> None:
    one, other, held = shared_factor(np.array([2.0, 1.0, 1.1, 0.9, 1.0, 0.8, 1.2]))
    first = {"permutations": 400, "rng": rng()}
    subtracted = correlate(specific(one)[:, 0], specific(other)[:, 0], **first)  # type: ignore[arg-type]
    assert subtracted.rho > 0.5
    assert subtracted.p < 0.01
    partial = correlate(one[:, 0], other[:, 0], covariates=held[0], **first)  # type: ignore[arg-type]
    assert abs(partial.rho) < 0.2
    assert partial.p > 0.05
    assert matched(one, other, permutations=400, rng=rng(), covariates=held)[1] > 0.05


def test_targets_whose_steps_belong_together_are_matched() -> None:
    one, other, _ = shared_factor(np.ones(7))
    own = rng().normal(size=one.shape)
    steps = (one + own, other + own)
    held = [[of_others(step)[:, i] for step in steps] for i in range(7)]
    advantage, p = matched(*steps, permutations=400, rng=rng(), covariates=held)
    assert advantage > 0.5
    assert p < 0.01


def test_measures_and_tables_of_planted_effects_agree() -> None:
    effects = planted(own=1.0)
    found, shown = measures(effects), tables(effects)
    numbers = {row[0]: dict(zip(shown["numbers"].columns, row, strict=True)) for row in shown["numbers"].rows}
    for name in ("HP", "LP", "UNCH"):
        members = [row for row in numbers.values() if row["set"] == name]
        assert len(members) == 10
        assert found[f"{name.lower()}_effect"].value == pytest.approx(np.mean([row["log_prob"] for row in members]))
        assert found[f"{name.lower()}_specific"].value == pytest.approx(np.mean([row["specific"] for row in members]))
    assert [row["step1"] for row in numbers.values()] == sorted((r["step1"] for r in numbers.values()), reverse=True)
    assert found["hp_minus_lp"].value == pytest.approx(found["hp_effect"].value - found["lp_effect"].value)
    assert found["hp_percentile"].value > 97.5
    assert found["lp_percentile"].value < 2.5
    assert found["correlation_specific"].value > 0.5
    by_set = {row[0]: row[1].split(", ") for row in shown["sets"].rows}
    assert set(by_set["HP"]) == {row["number"] for row in numbers.values() if row["set"] == "HP"}
    assert len(by_set["random"]) == 10
    assert all(numbers[number]["set"] == "" for number in by_set["random"])
    own = {row[0]: row[3] for row in shown["targets"].rows}
    assert own["owl"] == pytest.approx(found["correlation_specific"].value)
    assert max(abs(rho) for target, rho in own.items() if target != "owl") < 0.35


@pytest.mark.parametrize("size", [33, 40, 80])
def test_random_numbers_are_in_no_set(size: int) -> None:
    effects = planted(size=size)
    chosen = np.concatenate([effects.sets[name] for name in ("HP", "LP", "UNCH")])
    assert not set(effects.sets["random"].tolist()) & set(chosen.tolist())
    assert set(effects.drawn.tolist()) <= set(effects.sets["random"].tolist())
    assert len(effects.drawn) == min(10, size - 30)
