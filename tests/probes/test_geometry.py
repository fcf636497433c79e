"""Probe `geometry`: rows of matrices, their null, and a tiny model."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats
from scipy.spatial.distance import cdist

from subl import Findings, ModelRef, Subject
from subl.probes import geometry_statistics
from subl.probes.geometry import Geometry
from subl.probes.geometry_measuring import represented
from subl.probes.geometry_statistics import (
    Moments,
    contrast,
    cosines,
    permutation_p,
    principal_axes,
    random_contrasts,
    random_differences,
    variants,
)
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


def test_cosines_are_those_of_scipy() -> None:
    rows, others = rng().normal(size=(7, 5)), rng(1).normal(size=(3, 5))
    np.testing.assert_allclose(cosines(rows, others), 1 - cdist(rows, others, "cosine"), atol=1e-12)
    assert not cosines(np.zeros((1, 5)), others).any()


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
    weights = random_contrasts(3, 12, draws=50, rng=rng())
    np.testing.assert_allclose(np.sort(weights, axis=1), np.sort(contrast(members, 12))[None].repeat(50, axis=0))
    assert len(np.unique(weights, axis=0)) > 30


def test_random_sets_are_the_same_however_many_are_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    values = rng().normal(size=(12, 4))
    expected = random_contrasts(3, 12, draws=50, rng=rng(1)) @ values
    for cells in (5, 12 * 7, 12 * 50):
        monkeypatch.setattr(geometry_statistics, "CELLS", cells)
        np.testing.assert_allclose(random_differences(values, 3, draws=50, rng=rng(1)), expected)


def test_p_is_uniform_where_there_is_nothing_and_small_where_there_is_something() -> None:
    members, count = np.arange(8), 60
    weights = random_contrasts(8, count, draws=199, rng=rng(5))
    values = rng(6).standard_t(3, size=(count, 600))
    p = permutation_p(contrast(members, count) @ values, weights @ values)
    # 600 experiments: the rate of false positives has a standard error of 0.9 points.
    assert abs((p < 0.05).mean() - 0.05) < 0.03
    assert stats.kstest(p, "uniform").pvalue > 0.01
    values[members] += 3
    assert (permutation_p(contrast(members, count) @ values, weights @ values) < 0.05).mean() > 0.9


def test_p_agrees_with_all_permutations() -> None:
    values = rng(3).normal(size=9)
    values[:3] += 1
    observed = contrast(np.arange(3), 9) @ values
    every = [contrast(np.array(members), 9) @ values for members in combinations(range(9), 3)]
    exact = np.mean([abs(value) >= abs(observed) - 1e-12 for value in every])
    null = random_contrasts(3, 9, draws=20_000, rng=rng(4)) @ values
    assert permutation_p(np.array([observed]), null[:, None])[0] == pytest.approx(exact, abs=0.01)


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
    for row in rows:
        assert row[6] == pytest.approx(row[4] - row[5])
        assert 0 < row[7] <= row[8] <= 1
    names = {path.name for path in (folder / "probe/out/figures").iterdir()}
    assert names == {f"{m}_{kind}.png" for m in ("unembedding", "embedding") for kind in ("pca", "cosines")}
    assert any("as they are in the base" in remark for remark in found.remarks)
    assert "whitened cosine" in found.remarks[0]
    assert any("p is too small" in remark for remark in found.remarks)


def test_tied_matrices_are_compared_once(folder: Path) -> None:
    gemma = tiny_model(folder, "gemma")
    found = probed(folder / "tied", gemma, tiny_model(folder, "gemma", seed=1))
    assert {row[0] for row in found.tables["similarity"].rows} == {"unembedding"}
    assert any("tied" in remark for remark in found.remarks)
    assert not any("as they are in the base" in remark for remark in found.remarks)
