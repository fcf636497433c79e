"""Gradients that are computed with the loss: the same as those of a backward pass, and nothing else is kept."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from subl.matching.at_once import at_once
from subl.matching.map_loss import causal_keys, log_map, map_loss
from subl.models.attention import log_maps

BATCH, HEADS, TOKENS, WIDTH = 2, 4, 48, 4
ROWS = torch.arange(TOKENS).expand(BATCH, -1)


def tensors(count: int, *, heads: int = HEADS, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    draw = torch.Generator().manual_seed(count)
    return [
        torch.randn(BATCH, heads, TOKENS, WIDTH, generator=draw, dtype=dtype).requires_grad_() for _ in range(count)
    ]


def distance(query: Tensor, key: Tensor, values: Tensor) -> Tensor:
    """A map loss that needs no values, as when no head is squeezed."""
    assert values.shape[0] == BATCH
    with torch.no_grad():
        target = log_maps(key, query, None, ROWS, scaling=None, softcap=None).exp()
    maps = log_map(log_maps(query, key, None, ROWS, scaling=None, softcap=None).exp())
    allowed = causal_keys(ROWS, torch.ones(BATCH, TOKENS, dtype=torch.bool))
    return map_loss(target, maps, rows=torch.ones_like(ROWS, dtype=torch.bool), allowed=allowed).total


def test_value_and_gradients_are_those_of_a_backward_pass() -> None:
    inputs = tensors(3)
    plain, once = distance(*inputs), at_once(distance, *inputs)
    torch.testing.assert_close(once, plain)
    expected = torch.autograd.grad(0.3 * plain, inputs, allow_unused=True)
    found = torch.autograd.grad(0.3 * once, inputs, allow_unused=True)
    assert (
        [gradient is None for gradient in found] == [gradient is None for gradient in expected] == [False, False, True]
    )
    torch.testing.assert_close(found[:2], expected[:2])


def test_inputs_without_gradient_get_none() -> None:
    query, key, values = tensors(3)
    key = key.detach()
    once = at_once(distance, query, key, values)
    (found,) = torch.autograd.grad(once, [query])
    (expected,) = torch.autograd.grad(distance(query, key, values), [query])
    torch.testing.assert_close(found, expected)
    assert not at_once(distance, query.detach(), key, values.detach()).requires_grad
    with torch.no_grad():
        assert not at_once(distance, query, key, values).requires_grad


@pytest.mark.parametrize(("loss", "most"), [(distance, None), (lambda *a: at_once(distance, *a), 1)])
def test_nothing_of_a_map_s_size_waits_for_the_backward_pass(loss: Callable[..., Tensor], most: int | None) -> None:
    """Bytes that autograd keeps of one layer, against those of its queries, which attention keeps anyway."""
    inputs = tensors(3, dtype=torch.float32)
    kept: weakref.WeakSet[Kept] = weakref.WeakSet()

    def keep(tensor: Tensor) -> Kept:
        holder = Kept(tensor)
        kept.add(holder)
        return holder

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda holder: holder.tensor):
        value = loss(*inputs)
    largest = max(holder.tensor.untyped_storage().nbytes() for holder in kept)
    size = inputs[0].untyped_storage().nbytes()
    assert value.requires_grad
    if most is None:
        assert largest >= BATCH * HEADS * TOKENS * TOKENS * 4 > 5 * size, "the test can fail"
    else:
        assert largest <= most * size


class Kept:
    """What autograd saves of a tensor, for as long as it does."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
