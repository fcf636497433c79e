"""What every distillation loss returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class LossSum:
    """A sum over what a loss counts (query rows, positions, chunks, samples), and their number, both 0-dimensional.

    Kept apart so that gradient accumulation can divide the sums of all micro-batches by the number of all they count.
    """

    total: Tensor
    count: Tensor

    @property
    def mean(self) -> Tensor:
        """Return the loss of this batch alone; 0 where nothing counts."""
        return self.total / self.count.clamp_min(1)
