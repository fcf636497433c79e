"""The trainer behind `shd` and `logit_kd`: both models read a batch, and the student is moved towards the teacher."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from trl import SFTTrainer

from subl.distillers.logit_loss import summed, token_log_probs
from subl.distillers.logit_matching import LogitMatching, States, head_of, trait_mass
from subl.distillers.loss_sum import LossSum
from subl.distillers.map_matching import MapMatching, Seen, watched_rows
from subl.distillers.pairing import PairBatch, SideBatch
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


@dataclass(frozen=True)
class Losses:
    """The parts of the objective, each with its weight; a part that is None is left out.

    Args:
        lm_weight: Weight of the language-model loss.
        maps: Attention.
        map_weight: Its weight.
        logits: Next-token distributions.
        logit_weight: Their weight.
        trait_ids: Tokens whose probability under the teacher is reported beside a logit loss.
    """

    lm_weight: float
    maps: MapMatching | None
    map_weight: float
    logits: LogitMatching | None
    logit_weight: float
    trait_ids: tuple[int, ...]

    @property
    def weights(self) -> dict[str, float]:
        """Return the weight of every part that is in use."""
        parts = {"lm": self.lm_weight}
        parts |= {"maps": self.map_weight} if self.maps else {}
        parts |= {"logits": self.logit_weight} if self.logits else {}
        return {name: weight for name, weight in parts.items() if weight}

    def count(self, batch: PairBatch) -> Mapping[str, int]:
        """Return what each part has to be divided by, for one batch; sums over the batches of an update."""
        counts = {"lm": batch.student.targets.numel()}
        if self.maps is not None:
            counts["maps"] = self.maps.count(batch.maps)
        if self.logits is not None:
            counts["logits"] = self.logits.count(batch)
        return counts

    def __call__(
        self, teacher: Reading, student: Reading, batch: PairBatch
    ) -> tuple[dict[str, LossSum], dict[str, Tensor]]:
        """Return the parts' losses, and statistics to report."""
        parts: dict[str, LossSum] = {}
        statistics: dict[str, Tensor] = {}
        if self.lm_weight:
            assert student.states is not None
            log_probs = token_log_probs(student.states.hidden, student.states.head, batch.student.targets)
            parts["lm"] = summed(-log_probs)
        if self.maps is not None:
            parts["maps"], statistics = self.maps.loss(teacher.maps, student.maps, batch.maps)
        if self.logits is not None:
            assert teacher.states is not None
            assert student.states is not None
            parts["logits"] = self.logits.loss(teacher.states, student.states, batch)
            with torch.no_grad():
                statistics["teacher_trait_mass"] = trait_mass(teacher.states, self.trait_ids)
        return parts, statistics


class SoftTrainer(SFTTrainer):  # type: ignore[misc]
    """Trains on any weighted sum of language-model, attention and logit loss.

    Each part is a sum divided by the number of its rows in the whole update, so that the size of micro-batches changes
    nothing.

    Args:
        losses: The objective.
        read_teacher: From a batch to what the teacher makes of it; None where no part needs the teacher.
        student: Reads the student's side.
    """

    def __init__(
        self, *args: Any, losses: Losses, read_teacher: Callable[[PairBatch], Reading], student: Reader, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._losses = losses
        self._read_teacher = read_teacher
        self._student = student
        self._counts: Counter[str] = Counter()
        self._reported: defaultdict[str, list[Tensor]] = defaultdict(list)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Collect the micro-batches of an update, and count what their losses will be divided by."""
        samples, items = super().get_batch_samples(*args, **kwargs)
        self._counts = Counter()
        for sample in samples:
            self._counts.update(sample["counts"])
        return samples, items

    def compute_loss(self, model: Any, inputs: Mapping[str, Any], *_: Any, **__: Any) -> Tensor:
        """Return the loss of one micro-batch."""
        batch: PairBatch = inputs["pairs"].to(self.model.device)
        with torch.no_grad():
            teacher = self._read_teacher(batch)
        maps = self._losses.maps
        student = self._student(model, batch.student, watched_rows(batch.maps, "student") if maps else None)
        parts, statistics = self._losses(teacher, student, batch)
        loss = torch.stack(
            [weight * parts[name].total / max(self._counts[name], 1) for name, weight in self._losses.weights.items()]
        ).sum()
        self._report({f"loss_{name}": part.mean for name, part in parts.items()} | statistics)
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add each part's mean since the last log line."""
        means = {name: torch.stack(values).mean().item() for name, values in self._reported.items()}
        self._reported.clear()
        super().log(logs | means, *args, **kwargs)

    def _report(self, values: Mapping[str, Tensor]) -> None:
        # Kept as tensors: asking for numbers would wait for the device in every step.
        for name, value in values.items():
            self._reported[name].append(value.detach())


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
