"""Norms as linear maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from subl import ModelError
from subl.models.norms import linearised, tolerance

D = 12


def randomised(norm: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return norm.double()


NORMS: dict[str, Callable[[], Any]] = {
    "layer": lambda: randomised(nn.LayerNorm(D)),
    "rms": lambda: randomised(LlamaRMSNorm(D)),
    "gemma": lambda: randomised(GemmaRMSNorm(D)),
    "identity": nn.Identity,
}


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_of_a_sum_is_the_sum_of_what_its_terms_become(name: str) -> None:
    norm = NORMS[name]()
    terms = torch.randn(5, 3, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = linearised(norm, terms.sum(1))
    assert found.centred == (name == "layer")
    summed = found.apply(terms).sum(1) + found.bias
    torch.testing.assert_close(summed, norm(terms.sum(1)), atol=1e-6, rtol=1e-6)
    directions = torch.randn(D, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    pulled = terms @ found.pull(directions) / found.scale[:, None, None]
    torch.testing.assert_close(pulled, found.apply(terms) @ directions)


def test_gain_and_bias_are_the_norms_own() -> None:
    norm: Any = randomised(nn.LayerNorm(D))
    found = linearised(norm, torch.randn(2, D, dtype=torch.float64))
    torch.testing.assert_close(found.gain, norm.weight.detach(), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.bias, norm.bias.detach(), atol=1e-6, rtol=1e-6)


def test_what_is_no_norm_is_refused() -> None:
    with pytest.raises(ModelError, match="none of the form"):
        linearised(torch.tanh, torch.randn(2, D))


def test_half_precision_is_given_more_room() -> None:
    assert tolerance(torch.bfloat16) > tolerance(torch.float32) > tolerance(torch.float64)
