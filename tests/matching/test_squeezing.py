"""Squeezing against its equations, evaluated the long way, and against values worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from subl.matching.squeezing import Merge, Squeezed, mix, output_gram, plan_heads, squeeze
from tests.matching.squeezing_reference import (
    causal_maps,
    group_error,
    normal,
    squared_error,
    squeeze_by_rounds,
    unclipped_coefficient,
    written,
)

MERGES: list[Merge] = ["progressive", "per_row", "joint", "mean", "first"]
HALF = pytest.approx(0.5, abs=0)


def squeeze_x(maps: Tensor, x: Tensor, target: int = 1, merge: Merge = "progressive") -> Squeezed:
    """Squeeze maps (H, T, T) of heads that write x (H, T, D): each has its own values and an identity projection."""
    heads, _, width = x.shape
    weight = torch.eye(width, dtype=x.dtype).repeat(1, heads)
    return squeeze(maps[None], x[None], output_gram(weight, plan_heads(heads, target, merge=merge)))


def alphas(squeezed: Squeezed) -> list[float]:
    assert squeezed.coefficients is not None
    coefficients: list[float] = squeezed.coefficients[0, :, 0].tolist()
    return coefficients


@pytest.mark.parametrize(
    ("x_1", "x_2", "unclipped", "alpha", "residual"),
    [
        ([3.0, 0.0], [1.0, 0.0], 0.75, 0.75, 0.0),
        ([1.0, 0.0], [2.0, 1.0], 0.5, 0.5, 0.0),
        ([2.0, 0.0], [0.0, 1.0], 2.0, 1.0, 1.0),
        ([1.0, 0.0], [0.0, 1.0], None, 0.5, 1.0),
    ],
)
def test_two_by_two_maps_have_the_coefficients_worked_out_by_hand(
    x_1: list[float], x_2: list[float], unclipped: float | None, alpha: float, residual: float
) -> None:
    maps = torch.tensor([[[1, 0], [1, 0]], [[1, 0], [0, 1]]], dtype=torch.float64)
    x = torch.tensor([x_1, x_2], dtype=torch.float64)[..., None]
    squeezed = squeeze_x(maps, x)
    assert unclipped is None or unclipped_coefficient(maps, x) == unclipped
    assert alphas(squeezed) == [alpha]
    assert squared_error(maps, x, alpha) == residual
    assert squeezed.maps[0, 0].tolist() == [[1, 0], [alpha, 1 - alpha]]


@pytest.mark.parametrize(("ratio", "alpha"), [(0.25, 0.2), (1.0, 0.5), (3.0, 0.75)])
def test_proportional_heads_merge_without_error(ratio: float, alpha: float) -> None:
    maps, x = causal_maps(2, 9, 9, seed=1), normal(1, 9, 4, seed=2)
    x = torch.cat([ratio * x, x])
    squeezed = squeeze_x(maps, x)
    assert alphas(squeezed) == pytest.approx([alpha], abs=1e-14)
    assert group_error(maps, x, squeezed.maps[0, 0]) < 1e-25


def test_degenerate_pairs_take_the_side_that_writes_or_the_middle() -> None:
    maps, x = causal_maps(2, 9, 9, seed=3), normal(2, 9, 4, seed=4)
    nothing = torch.zeros_like(x[0])
    assert alphas(squeeze_x(maps, torch.stack([x[0], nothing]))) == [1]
    assert alphas(squeeze_x(maps, torch.stack([nothing, x[1]]))) == [0]
    assert alphas(squeeze_x(maps, torch.stack([x[0], -x[0]]))) == [0.5]
    constant = x[:, :1].expand(-1, 9, -1)
    assert alphas(squeeze_x(maps, constant)) == [0.5]
    equal = squeeze_x(maps[:1].expand(2, -1, -1), x)
    assert alphas(equal) == [0.5]
    assert torch.equal(equal.maps[0, 0], maps[0])


def test_a_coefficient_is_mirrored_scale_free_and_rotation_free() -> None:
    maps, x = causal_maps(2, 12, 12, seed=10), normal(2, 12, 6, seed=20)
    rotation = torch.linalg.qr(normal(6, 6, seed=5)).Q
    [alpha] = alphas(squeeze_x(maps, x))
    assert 0 < alpha < 1
    for other in (squeeze_x(maps, 7 * x), squeeze_x(maps, x @ rotation)):
        assert alphas(other) == pytest.approx([alpha], abs=1e-12)
    assert alphas(squeeze_x(maps.flip(0), x.flip(0))) == pytest.approx([1 - alpha], abs=1e-12)


@pytest.mark.parametrize(
    ("seed", "alpha", "error", "middle_error"),
    [
        (0, 0.451590050, 14.537924849, 14.689470),
        (1, 0.359959039, 25.029191331, 26.805456),
        (2, 0.567437305, 24.786673828, 25.505155),
    ],
)
def test_no_point_of_a_fine_grid_is_better_than_the_coefficient(
    seed: int, alpha: float, error: float, middle_error: float
) -> None:
    maps, x = causal_maps(2, 12, 12, seed=10 + seed), normal(2, 12, 6, seed=20 + seed)
    [found] = alphas(squeeze_x(maps, x))
    assert found == pytest.approx(alpha, abs=1e-9)
    best = squared_error(maps, x, found)
    assert best == pytest.approx(error, abs=1e-9)
    assert squared_error(maps, x, 0.5) == pytest.approx(middle_error, abs=1e-6)
    offset, slope = ((maps @ x).sum(0) - maps[1] @ x.sum(0)).flatten(), ((maps[0] - maps[1]) @ x.sum(0)).flatten()
    grid = torch.linspace(0, 1, 100_001, dtype=torch.float64)[:, None]
    assert best <= float((offset - grid * slope).square().sum(-1).min()) + 1e-12
    step = 1e-6
    rise = squared_error(maps, x, found + step) - squared_error(maps, x, found - step)
    assert abs(rise / (2 * step)) < 1e-8


def test_four_proportional_heads_squeeze_into_one_without_error() -> None:
    maps, x = causal_maps(4, 10, 10, seed=6), normal(1, 10, 5, seed=7)
    x = x * torch.arange(1, 5)[:, None, None]
    squeezed, joint = squeeze_x(maps, x), squeeze_x(maps, x, merge="joint")
    assert alphas(squeezed) == pytest.approx([1 / 3, 3 / 10, 3 / 7], abs=1e-12)
    for one, largest in ((squeezed, 1e-25), (joint, 1e-24)):
        assert one.weights[0, :, 0].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=1e-12)
        assert group_error(maps, x, one.maps[0, 0]) < largest
    three = squeeze_x(maps[:3], x[:3])
    assert three.weights[0, :, 0].tolist() == pytest.approx([1 / 6, 1 / 3, 1 / 2], abs=1e-12)


@given(st.integers(1, 4), st.integers(1, 4), st.data())
@settings(max_examples=60, deadline=None)
def test_the_fit_without_wide_tensors_equals_the_paper_s_rounds(
    kv_heads: int, repeats: int, data: st.DataObject
) -> None:
    heads = kv_heads * repeats
    target = data.draw(st.integers(1, heads))
    seed = data.draw(st.integers(0, 1000))
    maps, values = causal_maps(2, heads, 7, 7, seed=seed), normal(2, kv_heads, 7, 3, seed=seed + 1)
    weight = normal(11, heads * 3, seed=seed + 2)
    squeezed = squeeze(maps, values, output_gram(weight, plan_heads(heads, target, kv_heads=kv_heads)))
    assert (0 if squeezed.coefficients is None else squeezed.coefficients.shape[1]) == heads - target
    for sample in range(2):
        expected, merges = squeeze_by_rounds(maps[sample], written(values[sample], weight, heads), target)
        assert merges == heads - target
        torch.testing.assert_close(squeezed.maps[sample], expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("heads", "kv_heads", "target"), [(8, 2, 2), (8, 8, 3), (6, 3, 2), (4, 1, 1)])
@pytest.mark.parametrize("merge", MERGES)
def test_squeezed_rows_stay_causal_distributions_inside_their_group(
    merge: Merge, heads: int, kv_heads: int, target: int
) -> None:
    maps, values = causal_maps(3, heads, 13, 13, seed=8), normal(3, kv_heads, 13, 4, seed=9)
    plan = plan_heads(heads, target, kv_heads=kv_heads, merge=merge)
    squeezed = squeeze(maps, values, output_gram(normal(17, heads * 4, seed=10), plan))
    assert squeezed.maps.shape == (3, target, 13, 13)
    assert float(squeezed.maps.min()) >= 0
    assert float((squeezed.maps.sum(-1) - 1).abs().max()) < 1e-12
    assert float(squeezed.maps.triu(1).abs().max()) == 0
    for merged, group in zip(squeezed.maps.unbind(1), torch.split(maps, list(plan.sizes), dim=1), strict=True):
        assert bool((merged <= group.amax(1) + 1e-15).all())
        assert bool((merged >= group.amin(1) - 1e-15).all())
    torch.testing.assert_close(mix(maps, squeezed.weights, plan), squeezed.maps)


@pytest.mark.parametrize("merge", MERGES)
def test_as_many_heads_as_wanted_pass_unchanged(merge: Merge) -> None:
    maps = causal_maps(2, 6, 8, 8, seed=11)
    gram = output_gram(normal(9, 24, seed=12), plan_heads(6, 6, kv_heads=2, merge=merge))
    squeezed = squeeze(maps, normal(2, 2, 8, 4, seed=13), gram)
    assert torch.equal(squeezed.maps, maps)
    assert squeezed.statistics() == {}


def test_errors_of_four_heads_into_one_are_ordered_as_theory_says_and_no_further() -> None:
    """Joint is never worse; rounds beat the mean, and rows beat whole maps, only for a single pair (seed 2)."""
    errors: dict[Merge, list[float]] = {merge: [] for merge in MERGES}
    for seed in range(4):
        maps, x = causal_maps(4, 16, 16, seed=100 + seed), normal(4, 16, 8, seed=200 + seed)
        for merge in MERGES:
            errors[merge].append(group_error(maps, x, squeeze_x(maps, x, merge=merge).maps[0, 0]))
    assert errors["mean"] == pytest.approx([150.67, 98.74, 117.48, 79.32], abs=0.005)
    assert errors["progressive"] == pytest.approx([149.06, 89.45, 118.59, 78.74], abs=0.005)
    assert errors["joint"] == pytest.approx([140.45, 89.07, 116.78, 78.52], abs=0.005)
    assert all(j <= min(p, m) for j, p, m in zip(errors["joint"], errors["progressive"], errors["mean"], strict=True))
    assert errors["progressive"][2] > errors["mean"][2]
    assert errors["per_row"][2] > errors["progressive"][2]


def test_one_coefficient_per_row_is_never_worse_for_a_pair() -> None:
    for seed in range(20):
        maps, x = causal_maps(2, 12, 12, seed=seed), normal(2, 12, 6, seed=50 + seed)
        by_row, whole = squeeze_x(maps, x, merge="per_row"), squeeze_x(maps, x)
        assert group_error(maps, x, by_row.maps[0, 0]) < group_error(maps, x, whole.maps[0, 0])
        assert by_row.weights.shape == (1, 2, 12)


def test_values_alone_would_make_squeezing_a_mean() -> None:
    maps, values = causal_maps(1, 4, 9, 9, seed=14), normal(1, 1, 9, 5, seed=15)
    plan = plan_heads(4, 1, kv_heads=1)
    blind = squeeze(maps, values, output_gram(torch.eye(5, dtype=torch.float64).repeat(1, 4), plan))
    assert alphas(blind) == [HALF, HALF, HALF]
    torch.testing.assert_close(blind.maps[:, 0], maps.mean(1))
    true = squeeze(maps, values, output_gram(normal(11, 20, seed=16), plan))
    assert min(abs(alpha - 0.5) for alpha in alphas(true)) > 0.01


@pytest.mark.parametrize("sink", [0.0, 10.0])
@pytest.mark.parametrize(("heads", "kv_heads", "target"), [(32, 8, 8), (16, 16, 6)])
def test_single_precision_and_stored_half_precision_change_coefficients_little(
    heads: int, kv_heads: int, target: int, sink: float
) -> None:
    maps, values = causal_maps(1, heads, 256, 256, seed=17), normal(1, kv_heads, 256, 16, seed=18)
    maps[..., 0] += sink  # 10 puts 91 % of the mass on the first token
    maps = maps / maps.sum(-1, keepdim=True)
    weight, plan = normal(64, heads * 16, seed=19), plan_heads(heads, target, kv_heads=kv_heads)
    exact = squeeze(maps, values, output_gram(weight, plan))
    gram = output_gram(weight.float(), plan)
    single = squeeze(maps.float(), values.float(), gram)
    stored = squeeze(maps.bfloat16(), values.float(), gram)
    assert single.maps.dtype == stored.maps.dtype == torch.float32
    assert exact.coefficients is not None
    assert single.coefficients is not None
    assert stored.coefficients is not None
    assert float((single.coefficients - exact.coefficients).abs().max()) < 1e-6
    assert float((stored.coefficients - exact.coefficients).abs().max()) < 1e-4
    assert float((maps.bfloat16().double().sum(-1) - 1).abs().max()) > 1e-3
    assert float((stored.maps.sum(-1) - 1).abs().max()) < 1e-6


def test_joint_weights_survive_single_precision_though_their_gram_matrix_is_singular() -> None:
    maps, values = causal_maps(2, 16, 64, 64, seed=40), normal(2, 4, 64, 8, seed=41)
    weight, plan = normal(32, 128, seed=42), plan_heads(16, 4, kv_heads=4, merge="joint")
    exact = squeeze(maps, values, output_gram(weight, plan))
    single = squeeze(maps.float(), values.float(), output_gram(weight.float(), plan))
    assert float((single.weights - exact.weights).abs().max()) < 1e-4
