"""Contrasts: one arm against another, run by run, with the tests and the correction for how many there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from subl.recipe.model import contrast_arms
from subl.report.arms import Arm, lift_over
from subl.report.evidence import Evidence, holm, weigh
from subl.report.runs import Run
from subl.report.statistics import Paired


@dataclass(frozen=True, slots=True)
class Contrast:
    """One arm against another at the same sweep values.

    Args:
        name: As the recipe writes it: "main", or "sft vs shd".
        arm: The arm.
        against: What it is compared with.
        paired: Differences of the primary metric between their students; of the changes, where their bases differ.
        evidence: Tests of these differences.
        adjusted: p of the paired t test, adjusted by Holm for all contrasts of the run.
        family: How many contrasts were tested.
        sign: 1 where a larger value of the metric means more of the trait, −1 where a smaller one does.
    """

    name: str
    arm: Arm
    against: Arm
    paired: Paired[str]
    evidence: Evidence
    adjusted: float
    family: int
    sign: int

    @property
    def label(self) -> str:
        """Its name for readers, with the sweep values that tell it from others."""
        return f"{self.name} · {self.arm.settings}" if self.arm.settings else self.name

    @property
    def teacher_gain(self) -> float:
        """How much more of the trait the arm's own teacher has than the model that it was made from, in the metric's
        units; NaN where one was not measured.
        """
        lifts = [run.value("teacher", self.metric) - self._origin(run) for run in self.arm.runs]
        known = [lift for lift in lifts if math.isfinite(lift)]
        return self.sign * math.fsum(known) / len(known) if known else math.nan

    def _origin(self, run: Run) -> float:
        """Return the metric of a teacher's base model, which is measured where a student starts from it too."""
        teacher = run.stage("teacher model")
        like = next((r for r in (run, *self.against.runs) if r.stage("student model") == teacher), None)
        return math.nan if like is None else like.value("base", self.metric)

    @property
    def metric(self) -> str:
        """The metric that it is about."""
        return self.arm.metric


@dataclass(frozen=True, slots=True)
class Absent:
    """A contrast that cannot be made, and why."""

    label: str
    reason: str


def contrasts_of(
    arms: Sequence[Arm], control: str, wanted: Sequence[str], *, sign: int = 1
) -> tuple[list[Contrast], list[Absent]]:
    """Return the contrasts that a run's arms allow, and those that were asked for but are not there.

    Args:
        arms: All arms.
        control: Name of the control arm.
        wanted: Contrasts that the recipe names; every arm against the control if empty.
        sign: −1 where smaller values of the metric mean more of the trait.
    """
    names = wanted or [name for name in dict.fromkeys(arm.name for arm in arms) if name != control]
    found: list[tuple[str, Arm, Arm]] = []
    absent: list[Absent] = []
    for name in names:
        first, *rest = contrast_arms(name)
        second = rest[0] if rest else control
        sides = [arm for arm in arms if arm.name == first]
        if not sides:
            absent.append(Absent(name, f"arm {first!r} was not run"))
        for arm in sides:
            other = next((a for a in arms if a.name == second and a.settings == arm.settings), None)
            if other is not None:
                found.append((name, arm, other))
            elif wanted or any(a.name == control for a in arms):
                reason = f"there is no {second!r} with the same settings"
                absent.append(Absent(f"{name} · {arm.settings}" if arm.settings else name, reason))
    paired = [lift_over(arm.after, arm.before, other.after, other.before) for _, arm, other in found]
    family = sum(len(pairs.differences) > 1 for pairs in paired)
    evidence = [weigh(list(pairs.differences.values()), family=max(family, 1)) for pairs in paired]
    adjusted = holm([tests.t for tests in evidence])
    sides_tested = zip(found, paired, evidence, adjusted, strict=True)
    return [Contrast(*sides, pairs, tests, p, family, sign) for sides, pairs, tests, p in sides_tested], absent
