"""Where a curve over depth rises, from arrays alone: rows are places (see `depth`), columns are questions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from subl.artifacts import Measure
from subl.probes.entanglement_statistics import Floats
from subl.probes.intervals import LEVEL


@dataclass(frozen=True, slots=True)
class Rise:
    """The layer that makes the largest step.

    Args:
        layer: From 0, which leads from the curve's first place, the embeddings, to its second.
        low, high: The middle 95 % of bootstrap samples of the questions.
        share: Share of questions whose own largest step is there.
        questions: How many.
    """

    layer: int
    low: float
    high: float
    share: float
    questions: int

    def measure(self) -> Measure:
        """Return it as a measure."""
        return Measure(
            self.layer, self.low, self.high, self.questions, f"95 % bootstrap over {self.questions} questions"
        )


def rise(curves: Floats, *, resamples: int, rng: np.random.Generator) -> Rise:
    """Return which layer makes the largest step of the mean of curves, [layers + 1, questions]."""
    steps = np.diff(curves, axis=0)
    count = steps.shape[1]
    weights = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    found = (steps @ weights.T).argmax(axis=0)
    layer = int(steps.mean(axis=1).argmax())
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    own = steps.argmax(axis=0)
    return Rise(layer, float(low), float(high), float((own == layer).mean()), count)


def half_way(curve: Floats) -> float:
    """Return how many steps a curve takes until it stays above half its end; NaN unless it ends above 0."""
    if not curve[-1] > 0:
        return math.nan
    below = np.flatnonzero(curve < curve[-1] / 2)
    return float(below[-1] + 1) if below.size else 0.0
