"""Which heads merge, decided from counts; and the small optimisation problems behind the weights."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, minimize

from subl.errors import ModelError
from subl.matching.squeezing import output_gram, plan_heads
from subl.matching.squeezing_plan import Pair, halving
from subl.matching.squeezing_solutions import pair_coefficient, simplex_weights
from tests.matching.squeezing_reference import causal_maps, normal, squared_error

Vector = NDArray[np.float64]
SIZES = {
    (9, 3): [4, 4, 1],
    (25, 12): [4, *[2] * 10, 1],
    (25, 16): [*[2] * 9, *[1] * 7],
    (25, 20): [*[2] * 5, *[1] * 15],
    (40, 32): [*[2] * 8, *[1] * 24],
    (16, 6): [4, 4, 2, 2, 2, 2],
    (12, 6): [2] * 6,
    (6, 3): [2] * 3,
    (32, 8): [4] * 8,
    (8, 8): [1] * 8,
    (3, 1): [3],
    (5, 4): [2, 1, 1, 1],
}


@pytest.mark.parametrize(("counts", "sizes"), SIZES.items())
def test_rounds_end_exactly_at_the_wanted_count(counts: tuple[int, int], sizes: list[int]) -> None:
    heads, target = counts
    plan = plan_heads(heads, target)
    assert list(plan.sizes) == sizes
    assert sum(len(halving(size)) for size in plan.sizes) == heads - target


def test_mistral_to_gemma_makes_24_merges_all_inside_key_value_groups() -> None:
    plan = plan_heads(32, 8, kv_heads=8)
    [run] = plan.runs
    assert (run.groups, run.size, run.source_count) == (8, 4, 1)
    assert run.groups * len(halving(run.size)) == 24
    assert halving(4) == (Pair(0, 1, 2), Pair(2, 3, 4), Pair(0, 2, 4))


@given(st.integers(1, 30), st.data())
def test_groups_are_adjacent_and_cover_all_heads_once(heads: int, data: st.DataObject) -> None:
    target = data.draw(st.integers(1, heads))
    kv_heads = data.draw(st.sampled_from([n for n in range(1, heads + 1) if heads % n == 0]))
    plan = plan_heads(heads, target, kv_heads=kv_heads)
    covered = [head for run in plan.runs for head in range(run.start, run.start + run.groups * run.size)]
    assert covered == list(range(heads))
    assert sum(run.groups for run in plan.runs) == target
    for run in plan.runs:
        for group, kv_start in enumerate(run.kv_starts):
            first = run.start + group * run.size
            assert [kv_start + s for s in run.sources] == [(first + i) * kv_heads // heads for i in range(run.size)]


@given(st.integers(1, 40))
def test_halving_merges_neighbours_until_one_is_left(size: int) -> None:
    parts = [(i, i + 1) for i in range(size)]
    for start, middle, stop in halving(size):
        at = parts.index((start, middle))
        assert parts[at + 1] == (middle, stop)
        parts[at : at + 2] = [(start, stop)]
    assert parts == [(0, size)]


@pytest.mark.parametrize(
    ("heads", "target", "kv_heads", "said"),
    [
        (8, 16, None, "squeeze the side with 16 heads to 8"),
        (8, 0, None, "positive"),
        (8, 4, 3, "do not divide among 3"),
        (36, 4, None, "at most 8 heads into one"),
    ],
)
def test_heads_that_cannot_be_squeezed_as_asked_are_refused(
    heads: int, target: int, kv_heads: int | None, said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        plan_heads(heads, target, kv_heads=kv_heads, merge="joint")


def test_a_packed_projection_is_refused() -> None:
    with pytest.raises(ModelError, match="dequantized"):
        output_gram(torch.zeros(100, 1), plan_heads(4, 2))


def test_planning_does_not_import_torch() -> None:
    code = "import sys, subl.matching.squeezing_plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_unclipped_coefficient_minimises_the_objective_as_defined() -> None:
    outside = 0
    for seed in range(30):
        maps, x = causal_maps(2, 6, 6, seed=seed), normal(2, 6, 2, seed=100 + seed)
        x[1] = 0.5 * x[1] - 0.5 * x[0]
        p, q = ((maps[0] - maps[1]) @ x).unbind(0)
        forms = [(p * p).sum(), (p * q).sum(), (q * q).sum()]
        alpha = float(pair_coefficient(*forms))
        outside += not 0 <= alpha <= 1
        step = 1e-4
        slope = squared_error(maps, x, alpha + step) - squared_error(maps, x, alpha - step)
        assert abs(slope / (2 * step)) < 1e-8
        assert alpha + float(pair_coefficient(*reversed(forms))) == pytest.approx(1, abs=1e-12)
        scaled = [9 * form for form in forms]
        assert alpha == pytest.approx(float(pair_coefficient(*scaled)), abs=1e-12)
    assert outside > 3


@given(st.integers(2, 5), st.integers(1, 6), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_simplex_weights_are_optimal(size: int, rank: int, seed: int) -> None:
    """The gradient is smallest, and equal, where there is weight: sufficient, by convexity."""
    basis = normal(rank, size, seed=seed)
    gram, target = basis.T @ basis, basis.T @ normal(rank, seed=seed + 1)
    weights = simplex_weights(gram[None], target[None])[0]
    assert float(weights.min()) >= 0
    assert float(weights.sum()) == pytest.approx(1, abs=1e-12)
    slope = gram @ weights - target
    assert float((slope - slope.min()) @ weights) < 1e-9


def _cost(w: Vector, gram: Vector, target: Vector) -> float:
    return float(w @ gram @ w - 2 * target @ w)


def test_simplex_weights_agree_with_a_general_solver() -> None:
    for seed in range(5):
        basis = normal(7, 4, seed=seed)
        gram, target = (basis.T @ basis).numpy(), (basis.T @ normal(7, seed=seed + 50)).numpy()
        simplex = LinearConstraint(np.ones((1, 4)), 1, 1)
        found = minimize(_cost, np.full(4, 0.25), (gram, target), bounds=[(0, 1)] * 4, constraints=simplex, tol=1e-14)
        ours = simplex_weights(torch.tensor(gram), torch.tensor(target)).numpy()
        np.testing.assert_allclose(ours, found.x, atol=1e-5)


def test_equal_solutions_are_decided_for_equal_weights() -> None:
    weights = simplex_weights(torch.zeros(2, 4, 4), torch.zeros(2, 4))
    torch.testing.assert_close(weights, torch.full((2, 4), 0.25))
    twins = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    halves = simplex_weights(twins, torch.tensor([0.5, 0.5, 0.5], dtype=torch.float64))
    torch.testing.assert_close(halves, torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64), atol=1e-6, rtol=0)
