"""How widely attention heads attend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from subl.models.attention import Watched, bare, tapped
from subl.models.language import LanguageModel
from subl.models.parts import blocks


def head_entropies(lm: LanguageModel, texts: Sequence[Sequence[int]], *, batch_size: int) -> NDArray[np.float64]:
    """Return the mean entropy of every head's attention, in nats, [layers, heads].

    The mean is over all query positions of all texts but the first of each, which has a single key.

    Args:
        lm: The model.
        texts: Token ids, at least two each.
        batch_size: Texts per forward pass; changes speed only.

    Raises:
        ModelError: The model hides its attention maps.
    """
    layers = range(len(blocks(bare(lm.model))[1]))
    total: Tensor | float = 0.0
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    pad = int(lm.tokenizer.pad_token_id)
    real = torch.zeros(0)

    def read(_layer: int, watched: Watched, _values: Tensor) -> Tensor:
        logs = watched.log_maps()
        entropy = -(logs.exp() * logs).sum(-1)
        return (entropy * real[:, None]).sum((0, 2)).double()

    with torch.inference_mode(), tapped(lm.model, layers, read) as tap:
        for start in range(0, len(order), batch_size):
            batch = [list(texts[i]) for i in order[start : start + batch_size]]
            width = max(map(len, batch))
            ids = torch.tensor([row + [pad] * (width - len(row)) for row in batch], device=lm.device)
            places = torch.arange(width, device=lm.device).expand(len(batch), -1)
            lengths = torch.tensor([len(row) for row in batch], device=lm.device)[:, None]
            # Padding is on the right, where no real position sees it.
            real = (places > 0) & (places < lengths)
            tap.watch(places)
            lm.model(input_ids=ids, attention_mask=(places < lengths).long(), use_cache=False)
            seen = tap.take()
            total = total + torch.stack([seen[layer] for layer in layers])
    count = sum(len(text) - 1 for text in texts)
    assert isinstance(total, Tensor)
    mean: NDArray[np.float64] = (total / count).cpu().numpy()
    return mean
