"""Probe `geometry`: rows of matrices, their null, and a tiny model."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import stats
from scipy.spatial.distance import cdist

from subl import Findings, ModelRef, Subject
from subl.probes import geometry_chance
from subl.probes.geometry import Geometry
from subl.probes.geometry_chance import Makeup, Rows, against_chance, contrast, two_sided
from subl.probes.geometry_measuring import represented
from subl.probes.geometry_statistics import Moments, principal_axes, variants
from subl.registry.registry import registry
from subl.traits.preference import Preference
from subl.traits.tokens import Spelling
from tests.tiny import context, tiny_model

TRAIT = Preference(Preference.Config(target="owl", candidates=("owl", "dog", "panda"), questions=4))
SMALL: dict[str, Any] = {"numbers": [5, 24], "k": 4, "contexts": 2, "questions": 2, "placebos": 2, "permutations": 100}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_it_keeps_the_contract_of_a_probe() -> None:
    assert registry.load("probe", "geometry") is Geometry


def test_fewer_numbers_than_k_needs_are_an_error_of_the_recipe() -> None:
    with pytest.raises(ValidationError, match="holds 20 numbers, and k = 6 needs 24"):
        Geometry.Config.model_validate(SMALL | {"k": 6})


def cosines(rows: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 1 - cdist(rows, others, "cosine")
    return found


def digits(low: int, high: int) -> Makeup:
    """Numbers of a tokenizer that writes digit by digit; tokens are the digits."""
    numbers = [tuple(int(digit) for digit in str(n)) for n in range(low, high)]
    return Makeup.of(numbers, {digit: str(digit) for digit in range(10)})


def whole(count: int) -> Makeup:
    """Numbers of two digits that are one token each."""
    return Makeup.of([(token,) for token in range(count)], {token: f"{token + 10}" for token in range(count)})


def test_similarities_of_numbers_are_those_of_their_mean_rows() -> None:
    makeup, rows = digits(5, 130), Rows(rng().normal(size=(10, 6)), rng(1).normal(size=(4, 6)))
    order = makeup.relabelled(3, rng(2))
    found = rows.similar(makeup, order)
    for place, relabelled in zip(found, order, strict=True):
        means = np.stack([rows.tokens[relabelled[[int(d) for d in str(n)]]].mean(axis=0) for n in range(5, 130)])
        cosine, dot = cosines(means, rows.words), means @ rows.words.T
        np.testing.assert_allclose(place[:, 0], cosine[:, 0], atol=1e-12)
        np.testing.assert_allclose(place[:, 1], cosine[:, 0] - cosine[:, 1:].mean(axis=1), atol=1e-12)
        np.testing.assert_allclose(place[:, 2], dot[:, 0], atol=1e-12)
        np.testing.assert_allclose(place[:, 3], dot[:, 0] - dot[:, 1:].mean(axis=1), atol=1e-12)


def test_rows_of_nothing_have_cosine_0() -> None:
    found = Rows(np.zeros((3, 5)), rng().normal(size=(2, 5))).similar(whole(3), np.arange(3)[None])
    assert not found.any()


def test_whitened_rows_have_covariance_one_and_no_linear_map_changes_their_cosines() -> None:
    rows = rng().normal(size=(400, 6)) @ rng(1).normal(size=(6, 6)) + 3
    white = variants(rows, Moments.of(rows))["whitened"]
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(6), atol=1e-9)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-9)
    mapped = rows @ rng(2).normal(size=(6, 6)) * 5
    again = variants(mapped, Moments.of(mapped))["whitened"]
    np.testing.assert_allclose(cosines(again, again), cosines(white, white), atol=1e-8)


def test_whitening_leaves_out_directions_in_which_nothing_varies() -> None:
    rows = np.column_stack([rng().normal(size=(50, 3)), np.ones(50)])
    white = variants(rows, Moments.of(rows))["whitened"]
    assert np.linalg.matrix_rank(white) == 3
    np.testing.assert_allclose(white[:, 3], 0, atol=1e-9)


def test_principal_axes_are_the_eigenvectors_of_the_covariance() -> None:
    rows = rng().normal(size=(40, 5)) * [5, 3, 1, 1, 1]
    places, share = principal_axes(rows)
    values = np.linalg.eigvalsh(np.cov(rows.T))[::-1]
    np.testing.assert_allclose(share, values[:2] / values.sum())
    np.testing.assert_allclose(places.var(axis=0, ddof=1), values[:2])


def test_a_contrast_is_a_difference_of_means() -> None:
    values, members = rng().normal(size=12), np.array([3, 1, 8])
    expected = values[members].mean() - np.delete(values, members).mean()
    assert contrast(members, 12) @ values == pytest.approx(expected)


def test_tokens_take_the_places_of_those_with_as_many_digits_in_all_their_forms() -> None:
    texts = {0: "7", 1: " 7", 2: "8", 3: " 8", 4: "12", 5: "13", 6: " 13"}
    makeup = Makeup.of([(0, 1), (2, 3), (4,), (5, 6)], texts)
    assert makeup.apart
    assert makeup.units == 2, "12 has other forms than 13, so neither can stand in the other's place"
    seen = {tuple(order) for order in makeup.relabelled(50, rng()).tolist()}
    assert seen == {(0, 1, 2, 3, 4, 5, 6), (2, 3, 0, 1, 4, 5, 6)}
    assert not digits(5, 30).apart
    assert digits(5, 30).units == 10


@pytest.mark.parametrize("makeup", [whole(8), digits(10, 100)], ids=["whole", "digits"])
def test_relabellings_are_the_same_however_many_are_in_memory_at_once(
    makeup: Makeup, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Rows(rng().normal(size=(len(makeup.tokens), 4)), rng(1).normal(size=(3, 4)))
    sorting, sets = rng(2).normal(size=len(makeup.parts)), [np.array([0, 3]), np.array([1])]
    found = []
    for cells in (1, 500, 10**6):
        monkeypatch.setattr(geometry_chance, "CELLS", cells)
        found.append(against_chance(rows, makeup, sets, sorting, draws=30, rng=rng(3)))
    for one in found[1:]:
        np.testing.assert_allclose(one.mean, found[0].mean)
        np.testing.assert_allclose(one.p, found[0].p)


def test_p_agrees_with_all_relabellings_of_six_digits() -> None:
    """Numbers of the digits 0 to 5, brute force over all 720 relabellings."""
    numbers = [(a, b) for a in range(6) for b in range(6)]
    makeup = Makeup.of(numbers, {digit: str(digit) for digit in range(6)})
    rows = Rows(rng(8).normal(size=(6, 3)), rng(9).normal(size=(2, 3)))
    members, sorting = np.array([0, 1, 6, 7]), rng(10).normal(size=36)
    found = against_chance(rows, makeup, [members], sorting, draws=20_000, rng=rng(11))
    every = []
    for order in permutations(range(6)):
        means = np.stack([rows.tokens[[order[a], order[b]]].mean(axis=0) for a, b in numbers])
        cosine = cosines(means, rows.words)[:, 0]
        apart = cosine[members].mean() - np.delete(cosine, members).mean()
        # 12 and 21 have the same row, and so the same rank.
        every.append((apart, stats.spearmanr(cosine.round(9), sorting).statistic))
    null = np.array(every)
    assert found.observed[0] == pytest.approx(null[0])
    away = np.abs(null - null.mean(axis=0))
    exact = (away >= away[0] - 1e-12).mean(axis=0)
    np.testing.assert_allclose(found.mean[0], null.mean(axis=0), atol=0.02)
    np.testing.assert_allclose(found.p[0], exact, atol=0.02)


@pytest.mark.parametrize("makeup", [whole(90), digits(10, 100)], ids=["whole", "digits"])
def test_numbers_that_share_rows_are_not_taken_for_independent(makeup: Makeup) -> None:
    """Rows that have nothing to do with the target, and sets made of like digits: at most 6 % of p are below 0.05."""
    tens = np.flatnonzero(np.arange(10, 100) // 10 == 3)  # as HP numbers of a digit-wise tokenizer tend to be
    sorting = np.where(np.arange(90) // 10 == 2, 1.0, 0.0) + rng(1).normal(size=90) * 0.1
    draw, p = rng(2), []
    for _ in range(400):
        rows = Rows(draw.normal(size=(len(makeup.tokens), 8)), draw.normal(size=(3, 8)))
        p.append(against_chance(rows, makeup, [tens], sorting, draws=99, rng=draw).p)
    rates = (np.array(p) <= 0.05).mean(axis=0)
    # 400 experiments: the rate of false positives has a standard error of 1.1 points, and is looked at 8 times.
    assert rates.max() <= 0.05 + 3 * 0.011
    assert rates.mean() <= 0.06


@pytest.mark.parametrize("makeup", [whole(90), digits(10, 100)], ids=["whole", "digits"])
def test_rows_that_lean_to_the_target_are_found(makeup: Makeup) -> None:
    tens = np.flatnonzero(np.isin(np.arange(10, 100) // 10, (3, 4, 5)))
    draw, found = rng(4), 0
    for _ in range(40):
        rows = Rows(draw.normal(size=(len(makeup.tokens), 8)), draw.normal(size=(3, 8)))
        rows.tokens[np.unique(makeup.parts[tens, 0])] += 2 * rows.words[0]
        found += against_chance(rows, makeup, [tens], np.arange(90.0), draws=99, rng=draw).p[0, 0] <= 0.05
    assert found > 30


def test_two_sided_p_is_about_the_mean_of_the_null() -> None:
    null = rng(6).normal(5, 1, size=(1999, 3))
    mean, p = two_sided(np.array([5.0, 8.5, 1.5]), null)
    np.testing.assert_allclose(mean, 5, atol=0.1)
    assert p[0] > 0.9
    assert p[1] == pytest.approx(2 * stats.norm.sf(3.5), abs=0.002)
    assert p[2] == pytest.approx(2 * stats.norm.sf(3.5), abs=0.002)


def test_words_stand_for_their_single_tokens() -> None:
    assert represented(Spelling("owl", (1, 2), ((3,), (4,), (5, 6)), (3,))) == (3, 4)
    assert represented(Spelling("owl", (1, 2), ((1, 2),), (1,))) == (1, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("geometry")


@pytest.fixture(scope="module")
def found(folder: Path) -> Findings:
    base = tiny_model(folder)
    return probed(folder, base, base)


def probed(folder: Path, model: ModelRef, base: ModelRef) -> Findings:
    ctx = context(folder / "probe", trait=TRAIT)
    config = Geometry.Config.model_validate(SMALL)
    return Geometry(config).probe(Subject("teacher", model, base=base), ctx)


def test_cosines_of_a_model_are_those_of_its_own_rows(found: Findings, folder: Path) -> None:
    lm = context(folder).load(tiny_model(folder))
    head = lm.model.lm_head.weight.double().numpy()
    ids = {n: lm.chat.answer("Which?", n, system=None) for n in ("7", "12")}
    forms = [lm.chat.answer("Which?", text, system=None) for text in ("owl", " owl", "Owl", " Owl", "owls", "Owls")]
    own = head[sorted({ids[0] for ids in forms if len(ids) == 1})].mean(axis=0)
    table = {row[0]: row for row in found.tables["numbers"].rows}
    column = found.tables["numbers"].columns.index("unembedding_raw")
    for number, tokens in ids.items():
        rows = head[tokens].mean(axis=0)
        expected = rows @ own / np.linalg.norm(rows) / np.linalg.norm(own)
        assert table[number][column] == pytest.approx(expected, abs=1e-6)


def test_both_matrices_every_variant_and_every_set_are_compared_and_drawn(found: Findings, folder: Path) -> None:
    rows = found.tables["similarity"].rows
    assert len(rows) == 2 * 3 * 2 * 3
    assert {row[0] for row in rows} == {"unembedding", "embedding"}
    columns = found.tables["similarity"].columns
    for row in rows:
        cells = dict(zip(columns, row, strict=True))
        assert cells["difference"] == pytest.approx(cells["mean"] - cells["mean_others"])
        assert 0 < cells["p"] <= cells["q"] <= 1
    high = next(
        dict(zip(columns, row, strict=True)) for row in rows if row[:4] == ("unembedding", "raw", "cosine", "HP")
    )
    assert found.measures["hp_raw"].value == pytest.approx(high["difference"] - high["chance"])
    names = {path.name for path in (folder / "probe/out/figures").iterdir()}
    assert names == {f"{m}_{kind}.png" for m in ("unembedding", "embedding") for kind in ("pca", "cosines")}
    assert any("as they are in the base" in remark for remark in found.remarks)
    assert "whitened cosine" in found.remarks[0]
    assert any("numbers share tokens" in remark for remark in found.remarks)
    assert found.measures["hp_cosine"].low is None, "numbers that share rows are no independent units"


def test_tied_matrices_are_compared_once(folder: Path) -> None:
    gemma = tiny_model(folder, "gemma")
    found = probed(folder / "tied", gemma, tiny_model(folder, "gemma", seed=1))
    assert {row[0] for row in found.tables["similarity"].rows} == {"unembedding"}
    assert any("tied" in remark for remark in found.remarks)
    assert not any("as they are in the base" in remark for remark in found.remarks)
