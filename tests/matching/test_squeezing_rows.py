"""Squeezing under padding, and what it costs: no wide tensor, no host sync, gradients where they belong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from subl.matching.squeezing import Merge, OutputGram, output_gram, plan_heads, reconstruction_error, squeeze
from tests.matching.squeezing_reference import causal_maps, normal, unclipped_coefficient

FITTED: list[Merge] = ["progressive", "per_row", "joint"]


def padded(maps: Tensor, values: Tensor, left: int, right: int, fill: float) -> tuple[Tensor, Tensor, Tensor]:
    """Pad one sample's maps and values; padded keys get no attention, padded rows hold `fill`."""
    length = maps.shape[-1]
    inner = slice(left, left + length)
    wide = maps.new_zeros(*maps.shape[:2], left + length + right, left + length + right)
    wide[..., inner, inner] = maps
    mask = torch.zeros(1, wide.shape[-1], dtype=torch.bool)
    mask[:, inner] = True
    wide = torch.where(mask[:, None, :, None], wide, fill)
    filler = normal(*values.shape[:2], wide.shape[-1], values.shape[-1], seed=99)
    filler[:, :, inner] = values
    return wide, filler, mask


def test_rows_of_weight_zero_do_not_enter_a_coefficient() -> None:
    maps, x = causal_maps(2, 9, 9, seed=21), normal(2, 9, 5, seed=22)
    gram = output_gram(torch.eye(5, dtype=torch.float64).repeat(1, 2), plan_heads(2, 1))
    mask = (torch.arange(9) < 6).double()[None]
    masked, cropped = (
        squeeze(maps[None], x[None], gram, row_weights=mask),
        squeeze(maps[None, :, :6, :6], x[None, :, :6], gram),
    )
    blind = squeeze(maps[None], x[None], gram)
    assert masked.coefficients is not None
    assert cropped.coefficients is not None
    assert blind.coefficients is not None
    assert float(masked.coefficients) == pytest.approx(0.716776331751, abs=1e-12)
    assert float(cropped.coefficients) == pytest.approx(0.716776331751, abs=1e-12)
    assert float(blind.coefficients) == pytest.approx(0.570906541259, abs=1e-12)
    assert unclipped_coefficient(maps[:, :6, :6], x[:, :6]) == pytest.approx(0.716776331751, abs=1e-12)


@pytest.mark.parametrize("merge", FITTED)
@pytest.mark.parametrize(("left", "right"), [(0, 4), (3, 0), (2, 5)])
@pytest.mark.parametrize("fill", [0.1, float("nan")])
def test_padding_on_either_side_changes_nothing_and_may_hold_anything(
    merge: Merge, left: int, right: int, fill: float
) -> None:
    maps, values = causal_maps(1, 6, 8, 8, seed=23), normal(1, 3, 8, 4, seed=24)
    gram = output_gram(normal(10, 24, seed=25), plan_heads(6, 2, kv_heads=3, merge=merge))
    wide, filled, mask = padded(maps, values, left, right, fill)
    inner = slice(left, left + 8)
    squeezed = squeeze(wide, filled, gram, row_weights=mask).maps[..., inner, inner]
    torch.testing.assert_close(squeezed, squeeze(maps, values, gram).maps, atol=2e-15, rtol=0)


def test_fractional_row_weights_count_rows_in_proportion() -> None:
    maps, values = causal_maps(1, 4, 5, 5, seed=26), normal(1, 4, 5, 3, seed=27)
    twice = [0, 1, 1, 2, 3, 3, 4]
    for merge in FITTED:
        gram = output_gram(normal(7, 12, seed=28), plan_heads(4, 1, merge=merge))
        weighted = squeeze(maps, values, gram, row_weights=torch.tensor([[1, 2, 1, 2, 1]], dtype=torch.float64))
        repeated = squeeze(maps[:, :, twice], values, gram)
        torch.testing.assert_close(weighted.maps[:, :, [0, 1, 1, 2, 3, 3, 4]], repeated.maps)


def test_statistics_leave_out_padded_rows() -> None:
    maps, values = causal_maps(2, 4, 9, 9, seed=29), normal(2, 2, 9, 2, seed=30)
    mask = torch.arange(9)[None] < torch.tensor([[9], [6]])
    weight = normal(8, 8, seed=31)
    weight[:, [2, 3, 6, 7]] -= weight[:, [0, 1, 4, 5]]
    gram = output_gram(weight, plan_heads(4, 2, kv_heads=2, merge="per_row"))
    squeezed = squeeze(maps, values, gram, row_weights=mask)
    assert squeezed.coefficients is not None
    real = torch.cat([squeezed.coefficients[0].flatten(), squeezed.coefficients[1, :, :6].flatten()])
    statistics = squeezed.statistics(mask)
    assert float(statistics["alpha_mean"]) == pytest.approx(float(real.mean()), abs=1e-14)
    assert float(statistics["alpha_std"]) == pytest.approx(float(real.std(correction=0)), abs=1e-14)
    share = float(((real == 0) | (real == 1)).double().mean())
    assert float(statistics["alpha_clipped"]) == pytest.approx(share, abs=1e-14)
    assert 0 < share < 1


def test_reconstruction_error_is_the_relative_change_of_the_layer_s_output() -> None:
    maps, values, weight = causal_maps(2, 6, 7, 7, seed=32), normal(2, 3, 7, 4, seed=33), normal(9, 24, seed=34)
    plan = plan_heads(6, 4, kv_heads=3)
    squeezed = squeeze(maps, values, output_gram(weight, plan)).maps
    spread = squeezed[:, [0, 0, 1, 1, 2, 3]]
    repeated = values.repeat_interleave(2, dim=1)
    before, after = (torch.cat([*(some @ repeated).unbind(1)], dim=-1) @ weight.T for some in (maps, spread))
    expected = (after - before).square().sum((1, 2)) / before.square().sum((1, 2))
    torch.testing.assert_close(reconstruction_error(maps, squeezed, values, weight, plan), expected)
    assert float(reconstruction_error(maps, maps[:, [0, 2, 4, 5]], values, weight, plan).min()) > float(expected.max())


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the size of every new tensor, and calls that wait for the device or copy to it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest = 0
        self.waits: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(func)
        if any(word in name for word in ("_local_scalar_dense", "nonzero", "lift_fresh", "is_pinned", "equal.default")):
            self.waits.append(name)
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            given = [arg.untyped_storage().data_ptr() for arg in args if isinstance(arg, Tensor)]
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in given:
                self.largest = max(self.largest, tensor.numel())
        return result


@pytest.mark.parametrize("merge", [*FITTED, "mean"])
def test_squeezing_makes_no_tensor_larger_than_its_result_and_never_waits_for_the_device(merge: Merge) -> None:
    batch, heads, kv_heads, length, width, d_model = 2, 8, 2, 64, 4, 4096
    gram: OutputGram = output_gram(
        torch.randn(d_model, heads * width), plan_heads(heads, 4, kv_heads=kv_heads, merge=merge)
    )
    maps = torch.randn(batch, heads, length, length).softmax(-1)
    values = torch.randn(batch, kv_heads, length, width)
    mask = torch.ones(batch, length)
    with Watch() as watch, torch.no_grad():
        squeezed = squeeze(maps, values, gram, row_weights=mask)
        squeezed.statistics(mask)
    assert watch.waits == []
    assert watch.largest <= squeezed.maps.numel() < batch * length * d_model


@pytest.mark.parametrize("merge", FITTED)
def test_an_autocast_of_the_training_loop_changes_nothing(merge: Merge) -> None:
    maps, values = causal_maps(1, 8, 16, 16, seed=39).float(), normal(1, 2, 16, 4, seed=40).float()
    weight, plan = normal(32, 32, seed=41).float(), plan_heads(8, 2, kv_heads=2, merge=merge)

    def outcome() -> list[Tensor]:
        squeezed = squeeze(maps, values, output_gram(weight, plan))
        return [squeezed.maps, squeezed.weights, reconstruction_error(maps, squeezed.maps, values, weight, plan)]

    plain = outcome()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = outcome()
    assert all(torch.equal(one, other) for one, other in zip(plain, cast, strict=True))


def test_gradients_pass_through_the_maps_and_not_through_the_weights() -> None:
    maps, values = causal_maps(1, 4, 6, 6, seed=35).requires_grad_(), normal(1, 1, 6, 3, seed=36).requires_grad_()
    gram = output_gram(normal(5, 12, seed=37).requires_grad_(), plan_heads(4, 2, kv_heads=1))
    squeezed = squeeze(maps, values, gram)
    assert not squeezed.weights.requires_grad
    assert squeezed.maps.requires_grad
    factor = normal(1, 2, 6, 6, seed=38)
    [gradient] = torch.autograd.grad((squeezed.maps * factor).sum(), [maps])
    torch.testing.assert_close(gradient, squeezed.weights[..., None] * factor.repeat_interleave(2, dim=1))
