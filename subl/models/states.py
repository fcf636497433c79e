"""The residual stream behind every block, on many prompts at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from subl.models.attention import bare
from subl.models.language import LanguageModel
from subl.models.parts import blocks
from subl.models.scoring import Prefixes
from subl.models.watching import in_order, named_blocks, watched_calls

Ids = Sequence[int]
Read = Callable[[Tensor, Tensor], Tensor]
"""Takes hidden states (prompts, tokens, d) and the mask (prompts, tokens); returns what to keep, (rows, d)."""


def last(hidden: Tensor, _mask: Tensor) -> Tensor:
    """Read the last token of every prompt: (prompts, d)."""
    return hidden[:, -1]


def mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Read the mean over every prompt's tokens: (prompts, d)."""
    return (hidden * mask[..., None].to(hidden.dtype)).sum(1) / mask.sum(1, keepdim=True).to(hidden.dtype)


def every(hidden: Tensor, mask: Tensor) -> Tensor:
    """Read all tokens of all prompts one after the other: (tokens, d)."""
    return hidden[mask.bool()]


def residuals(lm: LanguageModel, prefixes: Sequence[Ids], *, batch_size: int, read: Read = last) -> Tensor:
    """Return the residual stream behind the embeddings and behind every block.

    Args:
        lm: The model.
        prefixes: Prompts in tokens.
        batch_size: Prompts per forward pass; changes speed only.
        read: Which tokens.

    Returns:
        float32 at least, on the CPU: (layers + 1, rows, d).

    Raises:
        ModelError: A block is not run, or does not pass on what the one before wrote.
    """
    _, modules = blocks(bare(lm.model))
    parts: list[Tensor] = []
    with torch.inference_mode():
        for start in range(0, len(prefixes), batch_size):
            batch = Prefixes(lm, prefixes[start : start + batch_size])
            with watched_calls(named_blocks(modules), len(batch.ids), partial(_read, read, batch.mask)) as calls:
                batch.run(cache=False)
            seen = in_order(calls, len(modules))
            parts.append(torch.stack([seen[0].input, *(call.output for call in seen)]))
    return torch.cat(parts, dim=1)


def _read(read: Read, mask: Tensor, hidden: Tensor) -> Tensor:
    return kept(read(hidden, mask))


def kept(values: Tensor) -> Tensor:
    """Return values as they are kept: float32 at least, on the CPU."""
    return values.to(torch.promote_types(values.dtype, torch.float32)).cpu()
