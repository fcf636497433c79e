"""The trainer behind `shd` and `logit_kd`: both models read a batch, and the student is moved towards the teacher."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from trl import SFTTrainer

from subl.matching.logit_loss import summed, token_log_probs
from subl.matching.logit_matching import LogitMatching, States
from subl.matching.loss_sum import LossSum
from subl.matching.map_matching import MapMatching
from subl.matching.pairing import PairBatch
from subl.matching.reading import Reader, Reading
from subl.models import ranks


@dataclass(frozen=True)
class Losses:
    """The parts of the objective, each with its weight; a part that is None is left out.

    Args:
        lm_weight: Weight of the language-model loss.
        maps: Attention.
        map_weight: Its weight.
        logits: Next-token distributions.
        logit_weight: Their weight.
    """

    lm_weight: float
    maps: MapMatching | None
    map_weight: float
    logits: LogitMatching | None
    logit_weight: float

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
            assert isinstance(student.states, States)
            log_probs = token_log_probs(student.states.hidden, student.states.head, batch.student.targets)
            parts["lm"] = summed(-log_probs)
        if self.maps is not None:
            parts["maps"], statistics = self.maps.loss(teacher.maps, student.maps, batch.maps)
        if self.logits is not None:
            assert teacher.states is not None
            assert isinstance(student.states, States)
            parts["logits"] = self.logits.loss(teacher.states, student.states, batch)
        return parts, statistics


class SoftTrainer(SFTTrainer):  # type: ignore[misc]
    """Trains on any weighted sum of language-model, attention and logit loss.

    Each part is a sum divided by the number of its rows in the whole update, so that the size of micro-batches changes
    nothing.

    Args:
        losses: The objective.
        read_teacher: From a batch to what the teacher makes of it.
        read_student: Reads the student's side.
    """

    def __init__(
        self,
        *args: Any,
        losses: Losses,
        read_teacher: Callable[[PairBatch], Reading],
        read_student: Reader,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._losses = losses
        self._read_teacher = read_teacher
        self._read_student = read_student
        self._counts: Counter[str] = Counter()
        self._reported: defaultdict[str, list[Tensor]] = defaultdict(list)
        if ranks.count() > 1:
            self._freeze_what_no_loss_reaches()

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Collect the micro-batches of an update, and count what their losses will be divided by."""
        samples, items = super().get_batch_samples(*args, **kwargs)
        self._counts = Counter()
        for sample in samples:
            self._counts.update(sample["counts"])
        if ranks.count() > 1:
            names = sorted(self._losses.weights)
            own = torch.tensor([self._counts[name] for name in names], device=self.accelerator.device)
            self._counts = Counter(dict(zip(names, self.accelerator.reduce(own).tolist(), strict=True)))
        return samples, items

    def compute_loss(self, model: Any, inputs: Mapping[str, Any], *_: Any, **__: Any) -> Tensor:
        """Return the loss of one micro-batch."""
        batch: PairBatch = inputs["pairs"].to(self.model.device)
        teacher, student = self._read_teacher(batch), self._read_student(model, batch)
        parts, statistics = self._losses(teacher, student, batch)
        loss = torch.stack(
            [weight * parts[name].total / max(self._counts[name], 1) for name, weight in self._losses.weights.items()]
        ).sum()
        if ranks.count() > 1:
            # Gradients are averaged over the processes; of fillers nothing is learnt.
            loss = loss * (ranks.count() if inputs["counts"] else 0)
        if inputs["counts"]:
            self._report(parts, statistics)
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add each part's mean since the last log line."""
        sums = {name: torch.stack(values).sum(0) for name, values in self._reported.items()}
        self._reported.clear()
        if ranks.count() > 1:
            sums = self._summed_up(sums)
        super().log(
            logs | {name: float(total / count.clamp_min(1)) for name, (total, count) in sums.items()}, *args, **kwargs
        )

    def _freeze_what_no_loss_reaches(self) -> None:
        """Leave out the weights that get no gradient, such as those above the last map: processes would wait for it."""
        inputs = self.data_collator([self.train_dataset[0]])
        self._counts = Counter(inputs["counts"])
        with torch.random.fork_rng(), torch.enable_grad():
            loss: Any = self.compute_loss(self.model, inputs)
            loss.backward()
        for weight in self.model.parameters():
            weight.requires_grad_(weight.grad is not None)
            weight.grad = None
        self._reported.clear()

    def _summed_up(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the sums over all processes."""
        names = ranks.agreed(sorted(sums))
        device = self.accelerator.device
        own = [sums.get(name, torch.zeros(2)).to(device, torch.float64) for name in names]
        return dict(zip(names, self.accelerator.reduce(torch.stack(own)), strict=True)) if own else {}

    def _report(self, parts: Mapping[str, LossSum], statistics: Mapping[str, Tensor]) -> None:
        # Kept as tensors: asking for numbers would wait for the device in every step.
        for name, part in parts.items():
            self._reported[f"loss_{name}"].append(torch.stack([part.total.detach(), part.count.to(part.total)]))
        for name, value in statistics.items():
            self._reported[name].append(torch.stack([value.detach(), torch.ones_like(value)]))
