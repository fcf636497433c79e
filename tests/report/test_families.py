"""Trait × trait matrices and dose-response curves."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from subl.report import figure
from subl.report.doses import dose_responses, respond
from subl.report.matrix import diagonal_p, diagonal_term, fit, trait_matrix
from subl.report.runs import read_runs
from tests.report.forged import findings, variant

TRAITS = ("owl", "panda", "dog", "cat")


def _table(seed: int) -> Any:
    return np.random.default_rng(seed).normal(0, 1, (4, 4))


def test_the_terms_are_those_of_a_least_squares_fit() -> None:
    cells = _table(0)
    rows, columns = np.divmod(np.arange(16), 4)
    design = np.column_stack(
        [np.ones(16), *(rows == i for i in range(1, 4)), *(columns == j for j in range(1, 4)), rows == columns]
    ).astype(float)
    solution, *_ = np.linalg.lstsq(design, cells.ravel(), rcond=None)
    found = fit(TRAITS, {"0": cells})
    assert found.diagonal.value == pytest.approx(solution[-1])
    assert np.diff(found.row) == pytest.approx(np.diff([0, *solution[1:4]]))
    assert np.diff(found.column) == pytest.approx(np.diff([0, *solution[4:7]]))
    assert sum(found.row) == pytest.approx(0)
    rebuilt = found.general + np.add.outer(found.row, found.column) + found.diagonal.value * np.eye(4)
    assert (cells - rebuilt).sum() == pytest.approx(0)


def test_general_drift_and_popular_traits_are_no_specific_effect() -> None:
    drift = 0.3 + np.add.outer([0.0, 0.1, 0.2, 0.3], [0.5, 0.0, -0.1, 0.2])
    assert diagonal_term(drift) == pytest.approx(0)
    found = fit(TRAITS, {"0": drift + 0.4 * np.eye(4), "1": drift + 0.2 * np.eye(4)})
    assert found.diagonal.value == pytest.approx(0.3)
    assert found.diagonal.interval == "95 % t over 2 seeds"
    assert found.p == pytest.approx(1 / 24), "the observed matching is the only one so far from 0"


def test_the_permutation_p_counts_matchings() -> None:
    cells = _table(1)
    terms = [
        abs((sum(cells[i, p[i]] for i in range(4)) - cells.sum() / 4) / 3) for p in itertools.permutations(range(4))
    ]
    assert diagonal_p(cells) == pytest.approx(np.mean(np.array(terms) >= abs(float(diagonal_term(cells))) - 1e-12))


def test_without_a_specific_effect_the_permutation_finds_one_in_twenty() -> None:
    random = np.random.default_rng(7)
    tables = random.normal(0, 1, (400, 4, 4)) + random.normal(0, 1, (400, 1, 4))
    assert np.mean([diagonal_p(cells) <= 0.05 for cells in tables]) <= 0.075  # 400 tables: ± 2 standard errors
    assert diagonal_p(np.eye(9) + 0.001 * random.normal(0, 1, (9, 9))) < 0.001


def _student(arm: str, seed: int, target: str, shares: dict[str, float]) -> dict[str, Any]:
    record = variant(arm, seed, shares.get(target, 0.1), target=target, point={"seed": seed, "trait.target": target})
    table = {"columns": ["candidate", "share"], "rows": [[name, share] for name, share in shares.items()]}
    record["findings"]["student.preference"]["tables"]["candidates"] = table
    return record


def test_an_experiment_over_traits_gives_a_matrix_against_the_neutral_student() -> None:
    records = []
    for seed in range(2):
        for own in ("owl", "panda"):
            records.append(_student("main", seed, own, {"owl": 0.2, "panda": 0.3, "cat": 0.5} | {own: 0.8}))
            records.append(_student("control", seed, own, {"owl": 0.1, "panda": 0.3, "cat": 0.6}))
    records += [_student("main", 2, "owl", {"owl": 0.8, "panda": 0.3}), _student("control", 2, "owl", {"owl": 0.1})]
    found = trait_matrix(read_runs(findings(*records)), "preference.share", "control")
    assert found is not None
    assert found.traits == ("owl", "panda")
    assert np.array(found.lifts) == pytest.approx(np.array([[0.7, 0.0], [0.1, 0.5]]))
    assert found.diagonal.n == 2
    assert found.incomplete == ("seed=2",)


def test_one_trait_or_no_control_gives_no_matrix() -> None:
    single = [_student(arm, 0, "owl", {"owl": 0.2}) for arm in ("main", "control")]
    two = [_student("main", 0, target, {"owl": 0.2, "panda": 0.1}) for target in ("owl", "panda")]
    assert trait_matrix(read_runs(findings(*single)), "preference.share", "control") is None
    assert trait_matrix(read_runs(findings(*two)), "preference.share", "control") is None


def test_the_slope_is_that_of_a_regression_per_seed() -> None:
    lifts = {"seed=0": {10.0: 0.1, 20.0: 0.3, 40.0: 0.4}, "seed=1": {10.0: 0.0, 20.0: 0.2, 40.0: 0.6}}
    found = respond("main", "inducer.updates", lifts)
    slopes = [stats.linregress(list(series), list(series.values())).slope for series in lifts.values()]
    assert found.slope.value == pytest.approx(np.mean(slopes))
    assert (found.slope.n, found.per) == (2, "unit")
    page = stats.page_trend_test([list(series.values()) for series in lifts.values()])
    assert found.trend == pytest.approx(2 * page.pvalue)


def test_doses_that_span_magnitudes_are_judged_per_doubling() -> None:
    found = respond("main", "data.rows", {"s": {2.0**k: 0.1 * k for k in range(4, 10)}})
    assert found.per == "doubling"
    assert found.slope.value == pytest.approx(0.1)
    assert found.slope[1:] == (None, None, 1, None)
    assert math.isnan(found.trend), "one seed: no test over seeds"


def test_a_falling_trend_is_found_as_well_as_a_rising_one() -> None:
    rising = {f"s{s}": {float(d): d + 0.1 * s for d in range(4)} for s in range(4)}
    falling = {s: {d: -lift for d, lift in series.items()} for s, series in rising.items()}
    assert respond("m", "x", rising).trend == pytest.approx(respond("m", "x", falling).trend)
    assert respond("m", "x", rising).trend < 0.001


def test_a_sweep_gives_a_curve_per_arm_and_names_seeds_without_a_dose() -> None:
    def at(arm: str, seed: int, updates: int, share: float | None) -> dict[str, Any]:
        return variant(arm, seed, share, point={"seed": seed, "inducer.updates": updates})

    records = [
        at(arm, seed, updates, 0.1 if arm == "control" else 0.1 + updates / 1000)
        for arm in ("main", "control", "other")
        for seed in range(3)
        for updates in (30, 60)
    ]
    records[1] = at("main", 0, 60, None)
    main, other, *measured = dose_responses(read_runs(findings(*records)), "preference.share")
    assert measured == [], "all teachers are equally strong"
    assert (main.arm, other.arm, main.path, main.doses) == ("main", "other", "inducer.updates", [30.0, 60.0])
    assert main.slope.value == pytest.approx(0.001)
    assert (main.slope.n, other.slope.n) == (2, 3)
    assert main.left_out == ("seed=0",)


def test_an_experiment_without_a_swept_number_has_no_dose() -> None:
    records = [variant(arm, seed, 0.5) for arm in ("main", "control") for seed in range(3)]
    assert dose_responses(read_runs(findings(*records)), "preference.share") == []


def at_intensity(arm: str, seed: int, word: str, teacher: float, student: float) -> dict[str, Any]:
    record = variant(arm, seed, student, point={"seed": seed, "inducer.intensity": word})
    record["findings"]["teacher.preference"]["measures"]["share"]["value"] = teacher
    return record


def test_words_are_doses_by_what_their_teachers_show() -> None:
    strengths = {"low": 0.3, "medium": 0.5, "high": 0.9}
    records = [
        at_intensity(arm, seed, word, share + seed / 100, 0.1 if arm == "control" else 0.1 + 2 * share**2 + seed / 10)
        for arm in ("main", "control")
        for seed in range(3)
        for word, share in reversed(strengths.items())
    ]
    (found,) = dose_responses(read_runs(findings(*records)), "preference.share")
    assert (found.arm, found.path) == ("main", "teacher's preference.share, as inducer.intensity makes it")
    assert (found.measured, found.per, found.left_out) == (True, "unit", ())
    assert list(found.lifts["seed=2"]) == pytest.approx([0.92, 0.52, 0.32])
    x, y = [0.3, 0.5, 0.9], [2 * 0.09, 2 * 0.25, 2 * 0.81]
    assert found.slope.value == pytest.approx(stats.linregress(x, y).slope), "seeds are shifted, not tilted"
    means = [*zip([v + 0.01 for v in x], [v + 0.1 for v in y], strict=True)]
    assert np.array(found.means) == pytest.approx(np.array(means))
    assert found.trend == pytest.approx(2 * stats.page_trend_test([y] * 3).pvalue)


def test_a_seed_without_one_of_its_teachers_is_left_out_of_the_slope() -> None:
    records = [
        at_intensity(arm, seed, word, 0.3 + 0.2 * dose + 0.01 * seed, 0.1 + (arm == "main") * dose / 10)
        for arm in ("main", "control")
        for seed in range(2)
        for dose, word in enumerate(("low", "medium", "high"))
    ]
    del records[0]["findings"]["teacher.preference"]
    (found,) = dose_responses(read_runs(findings(*records)), "preference.share")
    assert found.left_out == ("seed=0",)
    assert found.slope.n == 1
    assert found.slope.value == pytest.approx(0.5)


def test_equal_teachers_give_no_curve_of_their_own() -> None:
    records = [at_intensity(arm, 0, word, 0.5, 0.2) for arm in ("main", "control") for word in ("low", "high")]
    assert dose_responses(read_runs(findings(*records)), "preference.share") == []


def test_every_arm_has_its_line_however_many_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(figure, "_save", lambda sheet, _: drawn.append(sheet))
    figure.draw_doses([respond(f"a{i}", "x", {"s": {1.0: 0.1, 2.0: 0.2 + i}}) for i in range(7)], tmp_path / "x.png")
    lines = [line for line in drawn[0].axes[0].get_lines() if str(line.get_label()).startswith("a")]
    assert [line.get_label() for line in lines] == [f"a{i}" for i in range(7)]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 7
