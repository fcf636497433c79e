"""A loss whose gradient is computed with it, so that nothing of what lies between is kept for the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def at_once(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Return `function(*inputs)`, a scalar; its backward pass only scales gradients that are there already.

    Attention maps are far larger than the queries and keys that they come from: keeping the gradients of those instead
    of every step to the loss is what bounds the memory of a distillation through maps.
    """
    if not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in inputs):
        return function(*inputs)
    value: Tensor = _AtOnce.apply(function, *inputs)  # type: ignore[no-untyped-call]
    return value


class _AtOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        with torch.enable_grad():
            leaves = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in inputs]
            value = function(*leaves)
            wanted = [leaf for leaf in leaves if leaf.requires_grad]
            found = iter(torch.autograd.grad(value, wanted, allow_unused=True))
        ctx.save_for_backward(*(next(found) if leaf.requires_grad else None for leaf in leaves))
        return value.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(None if gradient is None else upstream * gradient for gradient in ctx.saved_tensors)
