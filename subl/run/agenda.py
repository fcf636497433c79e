"""What of a plan is computed: what is missing, what the user forces, and what was made from it."""

from __future__ import annotations

from collections.abc import Collection

from subl.run.plan import Plan, StageKind
from subl.run.store import Store


def renewed(plan: Plan, force: Collection[StageKind]) -> frozenset[str]:
    """Return the fingerprints of the stages that are computed again: of the forced kinds, and all made from them."""
    stages = {stage.fingerprint: stage for stage in plan.unique()}
    known: dict[str, bool] = {}

    def again(fingerprint: str) -> bool:
        if fingerprint not in known:
            stage = stages[fingerprint]
            known[fingerprint] = stage.kind in force or any(again(each) for each in stage.inputs.values())
        return known[fingerprint]

    return frozenset(fingerprint for fingerprint in stages if again(fingerprint)) if force else frozenset()


def to_compute(plan: Plan, store: Store, *, until: StageKind | None, force: Collection[StageKind]) -> frozenset[str]:
    """Return the fingerprints of the stages that a run computes; reads no more than whether results are there."""
    again = renewed(plan, force)
    return frozenset(
        stage.fingerprint
        for variant in plan.variants
        for stage in variant.until(until)
        if stage.fingerprint in again or not store.entry(stage.fingerprint).complete
    )
