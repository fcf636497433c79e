"""Running a model on its side of a batch, and keeping what a comparison needs: maps, and last states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from subl.matching.logit_matching import Kept, States, head_of
from subl.matching.map_matching import MapMatching, Seen, Unread, watched_rows
from subl.matching.pairing import PairBatch, SideBatch
from subl.models.alignment_maps import Side
from subl.models.attention import Tap, Watched, bare, tapped
from subl.models.parts import blocks


@dataclass(frozen=True, slots=True)
class Reading:
    """What one model makes of a batch, as far as a loss needs it.

    Attributes:
        states: Its last states, or what was kept of them in a cache; None where no loss needs them.
        maps: Its attention maps, by layer; those of a student in training are `Unread`, for the loss alone.
    """

    states: States | Kept | None
    maps: Mapping[int, Seen]


class Reader:
    """Runs one model on its side of batches; see `reader`."""

    def __init__(self, model: Any, side: Side, *, states: bool) -> None:
        self._base = bare(model)
        self._side = side
        self._states = states
        self.tap: Tap | None = None
        self.batch: PairBatch | None = None
        """The batch being read; gradient checkpointing reads it again in the backward pass."""

    def __call__(self, model: Any, batch: PairBatch) -> Reading:
        """Return what `model` (the reader's own, or a trainer's wrapper of it) makes of its side of the batch."""
        tokens = self._begin(batch)
        # Above the last layer whose maps are read nothing is needed, unless the states are, or the graph.
        stops = self.tap is not None and not self._states and not torch.is_grad_enabled()
        with (
            _last_states(self._base, tokens.asking if self._states else tokens.asking[:0]) as kept,
            _ending(self._base, max(self.tap.layers)) if self.tap is not None and stops else nullcontext(),
        ):
            model(input_ids=tokens.ids, attention_mask=tokens.mask, use_cache=False)
        maps = self.tap.take() if self.tap is not None else {}
        return Reading(States(kept[0], head_of(self._base)) if self._states else None, maps)

    def _begin(self, batch: PairBatch) -> SideBatch:
        self.batch = batch
        if self.tap is not None:
            self.tap.watch(watched_rows(batch.maps, self._side))
        return batch.side(self._side)


@contextmanager
def reader(model: Any, side: Side, maps: MapMatching | None, *, states: bool) -> Iterator[Reader]:
    """Return a reader of one side's model, whose attention is tapped for as long as the block runs.

    Args:
        model: A causal language model.
        side: Which side of a batch it reads.
        maps: What its maps are read for; None reads none.
        states: Whether its last states are needed.
    """
    one = Reader(model, side, states=states)
    if maps is None:
        yield one
        return
    if side == "teacher":
        maps.prepare(model)
    read, layers = (
        (maps.read_teacher, maps.teacher_layers) if side == "teacher" else (maps.read_student, maps.student_layers)
    )

    def see(layer: int, watched: Watched, values: Tensor) -> Seen | Unread:
        assert one.batch is not None
        return read(one.batch.maps, layer, watched, values)

    with tapped(model, layers, see) as one.tap:
        yield one


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


@contextmanager
def _ending(model: Any, layer: int) -> Iterator[None]:
    """End forward passes after a layer."""
    handle = blocks(model)[1][layer].register_forward_hook(_stop)
    try:
        yield
    except _Enough:
        pass
    finally:
        handle.remove()


class _Enough(Exception):  # noqa: N818 (no error: it ends a forward pass early)
    pass


def _stop(*_: Any) -> None:
    raise _Enough
