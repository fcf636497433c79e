"""Running a model on its side of a batch, and keeping what a comparison needs: maps, and last states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from subl.matching.logit_matching import States, head_of
from subl.matching.map_matching import Seen
from subl.matching.pairing import SideBatch
from subl.models.attention import Tap, bare
from subl.models.parts import blocks


@dataclass(frozen=True, slots=True)
class Reading:
    """What one model makes of a batch, as far as a loss needs it."""

    states: States | None
    maps: Mapping[int, Seen]


class Reader:
    """Runs one model on its side of a batch.

    Args:
        model: A causal language model.
        tap: On its attention, if maps are needed.
        states: Whether its last states are needed.
    """

    def __init__(self, model: Any, tap: Tap | None, *, states: bool) -> None:
        self._tap = tap
        self._states = states
        self._base = bare(model)

    def __call__(self, model: Any, tokens: SideBatch, rows: Tensor | None) -> Reading:
        """Return what `model` (the reader's own, or a trainer's wrapper of it) makes of `tokens`.

        Args:
            model: What to call.
            tokens: Its side of the batch.
            rows: Positions of the attention queries to read, (batch, R); None reads none.
        """
        if self._tap is not None and rows is not None:
            self._tap.watch(rows)
        with _last_states(self._base, tokens.asking if self._states else tokens.asking[:0]) as kept:
            model(input_ids=tokens.ids, attention_mask=tokens.mask, use_cache=False)
        maps = self._tap.take() if self._tap is not None and rows is not None else {}
        return Reading(States(kept[0], head_of(self._base)) if self._states else None, maps)

    @torch.no_grad()
    def maps_only(self, model: Any, tokens: SideBatch, rows: Tensor) -> Reading:
        """Return the maps alone, without running what lies above the last layer that is read."""
        assert self._tap is not None
        top = blocks(self._base)[1][max(self._tap.layers)]
        handle = top.register_forward_hook(_stop)
        self._tap.watch(rows)
        try:
            model(input_ids=tokens.ids, attention_mask=tokens.mask, use_cache=False)
        except _Enough:
            pass
        finally:
            handle.remove()
        return Reading(None, self._tap.take())


@contextmanager
def _last_states(model: Any, positions: Tensor) -> Iterator[list[Tensor]]:
    """Keep the last states at some flat positions, and let the head compute no logits."""
    kept: list[Tensor] = []

    def select(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden = inputs[0]
        kept.append(hidden.flatten(0, 1).index_select(0, positions))
        return (hidden[:, :0],)

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield kept
    finally:
        handle.remove()


class _Enough(Exception):  # noqa: N818 (no error: it ends a forward pass early)
    pass


def _stop(*_: Any) -> None:
    raise _Enough
