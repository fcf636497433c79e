"""A variant on its way through a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from subl.run.plan import Stage, StageKind, VariantPlan

_GATES: Mapping[StageKind, StageKind] = {"check": "generate", "audit": "distill"}
"""Kind of stage → what waits for it although it does not read it."""


@dataclass(slots=True)
class Branch:
    """How far a variant is.

    Args:
        position: Its place in the plan.
        plan: Its plan.
        stages: The stages that are to run, in order.
        settled: How many of them are recorded.
        begun: Whether the tracker knows of it.
        ended: Whether it is finished, or failed.
    """

    position: int
    plan: VariantPlan
    stages: tuple[Stage, ...]
    settled: int = 0
    begun: bool = False
    ended: bool = False

    @property
    def is_control(self) -> bool:
        """Whether the other arms are compared with this one."""
        return self.plan.variant.arm == self.plan.variant.recipe.report.control

    @property
    def next(self) -> Stage:
        """The first stage that is not recorded yet."""
        return self.stages[self.settled]

    def ready(self, done: Collection[str]) -> list[Stage]:
        """Return the stages that can be computed now: all that they read is among the fingerprints `done`.

        Rows are written only after the teacher has passed its check, and no student is trained on rows before their
        audit, so that a leak shows before hours are spent.
        """
        waiting = {_GATES.get(stage.kind) for stage in self.stages[self.settled :]}
        return [
            stage
            for stage in self.stages[self.settled :]
            if stage.fingerprint not in done
            and all(each in done for each in stage.inputs.values())
            and stage.kind not in waiting
        ]
