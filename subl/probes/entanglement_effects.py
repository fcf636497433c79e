"""What statistics say about the two steps taken together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from subl.probes.entanglement_statistics import (
    Comparison,
    Correlation,
    Floats,
    Positions,
    between_targets,
    compare,
    correlate,
    matched,
    of_others,
    percentiles,
    set_percentile,
    specific,
)
from subl.probes.entanglement_steps import StepOne, StepTwo

RANDOM = "random"
"""Name of the set of all sampled numbers that are in no other set."""


class Correlations(NamedTuple):
    """Step 1 with step 2 of one target, over the fair sample of numbers.

    Args:
        own: As measured.
        specific: Of both steps' effects minus the mean effects on the other targets.
        partial: With the mean effects on the other targets in both steps, digit length and neutral log-probability held
            constant. Only this tells a target's own effect from a stronger or weaker share of what all targets have in
            common, which subtraction leaves behind.
    """

    own: Correlation
    specific: Correlation
    partial: Correlation


@dataclass(frozen=True, slots=True)
class Effects:
    """Both steps on the same numbers.

    Args:
        one, two: The steps.
        sets: HP, LP, UNCH and random → rows of step 2.
        drawn: As many of the random ones as each other set has, to train on.
        targets: Target → how its step 1 correlates with its step 2, the trait's own target first.
        matched: How much better a target's two steps fit each other than those of different targets, with its p.
        comparisons: Sets against each other, corrected together.
        set_percentiles: Set → percentile of its mean specific effect among random sets.
    """

    one: StepOne
    two: StepTwo
    sets: Mapping[str, Positions]
    drawn: Positions
    targets: Mapping[str, Correlations]
    matched: tuple[float, float]
    comparisons: tuple[Comparison, ...]
    set_percentiles: Mapping[str, float]

    @property
    def correlations(self) -> Correlations:
        """Those of the trait's own target."""
        return self.targets[self.one.targets[0]]

    @property
    def step1(self) -> Floats:
        """[rows, targets], step 1 of the numbers that step 2 measured."""
        return self.one.change[self.two.rows]

    @property
    def alone(self) -> Floats:
        """[rows], change of the target's log-probability minus the mean change of its controls'."""
        return specific(self.two.change)[:, 0]

    @property
    def percentiles(self) -> Floats:
        """[rows], percentile of `alone` among the random numbers."""
        return percentiles(self.alone, self.alone[self.two.among])

    def alike(self) -> tuple[Floats, Floats]:
        """Return how the number effects correlate between targets, in step 1 and step 2: [targets, targets] each."""
        return between_targets(self.one.change), between_targets(self.two.change[self.two.among])


def analyse(one: StepOne, two: StepTwo, *, permutations: int, rng: np.random.Generator) -> Effects:
    """Return the effects of both steps, with every test."""
    sets = {name: np.searchsorted(two.rows, positions) for name, positions in one.sets.named().items()}
    chosen = list(sets)
    sets[RANDOM] = np.setdiff1d(two.among, np.concatenate(list(sets.values())))
    alone = specific(two.change)[:, 0]
    outcomes = {"log_prob": two.change[:, 0], "specific": alone, "share": two.share}
    comparable = {name: rows for name, rows in sets.items() if len(rows) > 1}
    targets, fit = _correlations(one, two, permutations, rng)
    return Effects(
        one=one,
        two=two,
        sets=sets,
        drawn=rng.choice(sets[RANDOM], min(len(sets["HP"]), len(sets[RANDOM])), replace=False),
        targets=targets,
        matched=fit,
        comparisons=tuple(
            compare({name: {s: values[rows] for s, rows in comparable.items()} for name, values in outcomes.items()})
        ),
        set_percentiles={
            name: set_percentile(alone[sets[name]], alone[two.among], draws=permutations, rng=rng) for name in chosen
        },
    )


def covariates(one: StepOne, two: StepTwo, target: int) -> tuple[Floats, ...]:
    """Return what partial correlations of a target hold constant, over the fair sample: [random] each."""
    sample = two.rows[two.among]
    others = (of_others(one.change)[sample, target], of_others(two.change)[two.among, target])
    return one.digits[sample], one.neutral[sample], *others


def _correlations(
    one: StepOne, two: StepTwo, permutations: int, rng: np.random.Generator
) -> tuple[dict[str, Correlations], tuple[float, float]]:
    """Return every target's correlations, and how much better they fit than those of different targets."""
    before, after = one.change[two.rows[two.among]], two.change[two.among]
    before_alone, after_alone = specific(before), specific(after)
    held = [covariates(one, two, target) for target in range(len(one.targets))]

    def correlation(x: Floats, y: Floats, constant: Sequence[Floats] = ()) -> Correlation:
        return correlate(x, y, permutations=permutations, rng=rng, covariates=constant)

    targets = {
        target: Correlations(
            own=correlation(before[:, i], after[:, i]),
            specific=correlation(before_alone[:, i], after_alone[:, i]),
            partial=correlation(before[:, i], after[:, i], held[i]),
        )
        for i, target in enumerate(one.targets)
    }
    return targets, matched(before, after, permutations=permutations, rng=rng, covariates=held)
