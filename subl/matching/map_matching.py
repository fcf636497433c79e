"""Comparing a student's attention maps with a teacher's: which layers and heads, squeezed and carried how."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from subl.artifacts import Shape
from subl.errors import ModelError
from subl.matching.at_once import at_once
from subl.matching.loss_sum import LossSum
from subl.matching.map_loss import (
    causal_keys,
    head_costs,
    log_map,
    map_loss,
    match_heads,
    over_layers,
)
from subl.matching.map_settings import MapSettings
from subl.matching.shapes import NO_HEADS_TO_SHUFFLE, pair_layers, plan_both
from subl.matching.squeezing import HeadPlan, OutputGram, Squeezed, output_gram, squeeze
from subl.models.alignment_direct import DirectBatch
from subl.models.alignment_maps import ChunkBatch, Side, carry
from subl.models.attention import Watched, attention_module, bare, head_counts, output_projection
from subl.models.parts import blocks


@dataclass(frozen=True, slots=True)
class Seen:
    """One layer's maps of one side, on the common chunks.

    Attributes:
        maps: (batch, target heads, rows, K): the teacher's probabilities, or the student's logarithms.
        statistics: What squeezing says of itself.
    """

    maps: Tensor
    statistics: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unread:
    """One layer of the student whose maps the loss computes itself, one layer at a time."""

    watched: Watched
    values: Tensor


class MapMatching:
    """Reads both sides' maps and compares them; one for a training.

    Args:
        settings: How.
        teacher: The teacher's network, of which only the shape is looked at; it may be on the device "meta".
        student: The student's network.

    Raises:
        ModelError: A layer does not exist, or heads cannot be squeezed as asked.
    """

    def __init__(self, settings: MapSettings, teacher: Any, student: Any) -> None:
        self.settings = settings
        shapes = shape_of(teacher), shape_of(student)
        self.layers = pair_layers(settings, *shapes)
        self.plan, self.student_plan = plan_both(settings, *shapes)
        self._orders: dict[int, Tensor] = {}
        self._student = student
        self._grams: dict[int, OutputGram] = {}

    @property
    def student_layers(self) -> tuple[int, ...]:
        """Return the student's layers that are compared."""
        return tuple(own for own, _ in self.layers)

    @property
    def teacher_layers(self) -> tuple[int, ...]:
        """Return the teacher's layers that are compared, each once, in order."""
        return tuple(sorted({theirs for _, theirs in self.layers}))

    def key(self) -> dict[str, Any]:
        """Return, as JSON values, what decides the maps that `read_teacher` gives of a batch, the teacher aside."""
        settings = self.settings
        choices = {"merge": settings.merge, "rows": settings.rows, "alignment": settings.alignment}
        return {"layers": list(self.teacher_layers), "heads": self.plan.target, **choices}

    @torch.no_grad()
    def prepare(self, teacher: Any) -> None:
        """Take from the teacher's network, as it is now, what squeezing its maps needs; once, before they are read."""
        self._grams = self._grams or {layer: _gram(teacher, layer, self.plan) for layer in self.teacher_layers}

    def read_teacher(self, batch: ChunkBatch | DirectBatch, layer: int, watched: Watched, values: Tensor) -> Seen:
        """Squeeze one layer of the teacher and carry it to the chunks; arguments as a tap's reader gets them."""
        # In place, because the logarithms are as large and not needed any more.
        squeezed = squeeze(
            watched.log_maps().exp_(), values, self._grams[layer], row_weights=_weights(batch, "teacher")
        )
        carried = (
            batch.teacher(squeezed.maps)
            if isinstance(batch, DirectBatch)
            else carry(squeezed.maps, batch, "teacher", rows=self.settings.rows)
        )
        return Seen(carried, squeezed.statistics(_weights(batch, "teacher")))

    def read_student(
        self, batch: ChunkBatch | DirectBatch, layer: int, watched: Watched, values: Tensor
    ) -> Seen | Unread:
        """Carry one layer of the student to the chunks, or leave it to the loss where that needs a gradient."""
        if torch.is_grad_enabled():
            return Unread(watched, values)
        return self._seen(batch, layer, watched, values)

    def _seen(self, batch: ChunkBatch | DirectBatch, layer: int, watched: Watched, values: Tensor) -> Seen:
        """Carry one layer of the student to the chunks; squeeze it too if the teacher has fewer heads."""
        logs = watched.log_maps()
        if self.student_plan.heads > self.student_plan.target:
            with torch.no_grad():
                gram = _gram(self._student, layer, self.student_plan)
            squeezed: Squeezed = squeeze(logs.exp(), values, gram, row_weights=_weights(batch, "student"))
            return Seen(log_map(self._carried(squeezed.maps, batch)), squeezed.statistics(_weights(batch, "student")))
        # Scores as they are where nothing needs summing: a logarithm of a sum cuts small probabilities' gradient off.
        exact = isinstance(batch, DirectBatch) or batch.identity
        return Seen(self._carried(logs, batch) if exact else log_map(self._carried(logs.exp(), batch)))

    def loss(
        self, teacher: Mapping[int, Seen], student: Mapping[int, Seen | Unread], batch: ChunkBatch | DirectBatch
    ) -> tuple[LossSum, dict[str, Tensor]]:
        """Return the loss of a batch, its mean over layers, and statistics to report."""
        found = [self._layer_loss(own, teacher[theirs].maps, student[own], batch) for own, theirs in self.layers]
        reported = [one for one in (*(seen.statistics for seen in teacher.values()), *(s for _, s in found)) if one]
        statistics = {name: torch.stack([one[name] for one in reported]).mean() for name in (reported or [{}])[0]}
        return over_layers([loss for loss, _ in found]), statistics

    def _layer_loss(
        self, layer: int, target: Tensor, own: Seen | Unread, batch: ChunkBatch | DirectBatch
    ) -> tuple[LossSum, Mapping[str, Tensor]]:
        """Return one layer's loss, and what squeezing the student's maps says of itself."""
        target, allowed = self.ordered(layer, target), causal_keys(batch.queries, batch.keys)

        def compared(seen: Seen) -> tuple[LossSum, Mapping[str, Tensor]]:
            loss = map_loss(
                target,
                seen.maps,
                rows=batch.rows,
                allowed=allowed,
                temperature=self.settings.map_temperature,
                divergence=self.settings.map_divergence,
                reduction=self.settings.reduction,
            )
            return loss, {name: value.detach() for name, value in seen.statistics.items()}

        if isinstance(own, Seen):
            return compared(own)
        watched, beside = own.watched, []

        def total(query: Tensor, key: Tensor, values: Tensor) -> Tensor:
            beside.append(compared(self._seen(batch, layer, replace(watched, query=query, key=key), values)))
            return beside[0][0].total

        value = at_once(total, watched.query, watched.key, own.values)
        loss, statistics = beside[0]
        return LossSum(value, loss.count), statistics

    def count(self, batch: ChunkBatch | DirectBatch) -> int:
        """Return what the loss of a batch counts: its query rows, or its samples that have one."""
        rows = batch.rows.sum(-1)
        return int(rows.sum() if self.settings.reduction == "row" else (rows > 0).sum())

    def ordered(self, layer: int, maps: Tensor) -> Tensor:
        """Return squeezed heads in the order of the heads of a student layer that they teach."""
        order = self._orders.get(layer)
        return maps if order is None else maps.index_select(1, order.to(maps.device))

    def shuffle(self, seed: int) -> None:
        """Put every layer's heads in a random order in which none keeps its place.

        Raises:
            ModelError: There is only one head.
        """
        if self.plan.target < 2:
            raise ModelError(NO_HEADS_TO_SHUFFLE)
        for layer in self.student_layers:
            draw = random.Random(f"{seed} {layer}")
            cycle = draw.sample(range(self.plan.target), self.plan.target)
            following = dict(zip(cycle, cycle[1:] + cycle[:1], strict=True))
            self._orders[layer] = torch.tensor([following[head] for head in range(self.plan.target)])

    def match(self, seen: Sequence[tuple[Mapping[int, Seen], Mapping[int, Seen], ChunkBatch | DirectBatch]]) -> None:
        """Match heads by what they cost on some batches of both sides' maps, for good."""
        for own, theirs in self.layers:
            costs = [
                head_costs(
                    teacher[theirs].maps,
                    student[own].maps,
                    rows=batch.rows,
                    allowed=causal_keys(batch.queries, batch.keys),
                )
                for teacher, student, batch in seen
            ]
            self._orders[own] = torch.tensor(match_heads(torch.stack(costs).mean(0)))

    def _carried(self, maps: Tensor, batch: ChunkBatch | DirectBatch) -> Tensor:
        if isinstance(batch, DirectBatch):
            return maps
        return carry(maps, batch, "student", rows=self.settings.rows)


def watched_rows(batch: ChunkBatch | DirectBatch, side: Side) -> Tensor:
    """Return the positions of the queries whose maps are needed, (batch, R)."""
    if isinstance(batch, ChunkBatch):
        return batch.side(side).asking
    if side == "student":
        return batch.queries
    rows, _, tokens = batch.projection.shape
    return torch.arange(tokens, device=batch.projection.device).expand(rows, -1)


def shape_of(model: Any) -> Shape:
    """Return a network's number of layers and heads."""
    return Shape(len(blocks(bare(model))[1]), *head_counts(model))


def key_mode(settings: MapSettings, systems: tuple[str | None, str | None]) -> Literal["all", "content", "response"]:
    """Return which keys count; `auto` looks at the two system prompts."""
    if settings.keys != "auto":
        return settings.keys
    return "content" if (systems[0] or "") != (systems[1] or "") else "all"


def _weights(batch: ChunkBatch | DirectBatch, side: Side) -> Tensor:
    """Return which watched rows count in fitting a squeeze, (batch, R): the tokens of the pieces that are compared."""
    if isinstance(batch, ChunkBatch):
        return batch.side(side).asks.float()
    if side == "student":
        return batch.rows.float()
    used: Tensor = ((batch.projection > 0) & batch.rows[..., None]).any(1).float()
    return used


def _gram(model: Any, layer: int, plan: HeadPlan) -> OutputGram:
    return output_gram(output_projection(attention_module(model, layer)), plan)
