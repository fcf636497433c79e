"""Entropies of attention heads, in closed form and against the model's own maps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subl.models.entropy import head_entropies
from subl.models.language import LanguageModel
from tests.distillers.soft import model
from tests.tiny import context

TEXTS = [[5, 9, 200, 31], [77, 12], [4, 4, 8, 15, 16, 23]]


def loaded(folder: Path, architecture: str) -> LanguageModel:
    lm: LanguageModel = context(folder).load(model(folder, architecture), fresh=True)
    return lm


def test_uniform_attention_has_the_entropy_of_its_keys(tmp_path: Path) -> None:
    lm = loaded(tmp_path, "gemma")
    for name, weight in lm.model.named_parameters():
        if "q_proj" in name:
            weight.data = torch.zeros_like(weight)
    expected = np.mean([math.log(place + 1) for text in TEXTS for place in range(1, len(text))])
    for batch_size in (1, 3):
        assert head_entropies(lm, TEXTS, batch_size=batch_size) == pytest.approx(np.full((2, 4), expected), abs=1e-6)


def test_entropies_are_those_of_the_eager_maps(tmp_path: Path) -> None:
    lm = loaded(tmp_path, "mistral")
    found = head_entropies(lm, TEXTS, batch_size=2)
    network: Any = lm.model
    network.set_attn_implementation("eager")
    rows = []
    for text in TEXTS:
        maps = torch.stack(network(torch.tensor([text]), output_attentions=True).attentions)[:, 0].double()
        rows.append(-torch.xlogy(maps, maps).sum(-1)[:, :, 1:])
    assert found == pytest.approx(torch.cat(rows, dim=-1).mean(-1).numpy(), abs=1e-5)
