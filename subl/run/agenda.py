"""What of a plan is computed: what is missing, what the user forces, and what is made from it."""

from __future__ import annotations

from collections.abc import Collection

from subl.run.plan import Plan, StageKind
from subl.run.store import Store


def upstream(plan: Plan) -> dict[str, frozenset[str]]:
    """Return the fingerprint of every stage → those of all that it is made from."""
    stages = {stage.fingerprint: stage for stage in plan.unique()}
    known: dict[str, frozenset[str]] = {}

    def above(fingerprint: str) -> frozenset[str]:
        if fingerprint not in known:
            inputs = stages[fingerprint].inputs.values()
            known[fingerprint] = frozenset(inputs).union(*map(above, inputs))
        return known[fingerprint]

    return {fingerprint: above(fingerprint) for fingerprint in stages}


def renewed(plan: Plan, force: Collection[StageKind]) -> frozenset[str]:
    """Return the fingerprints of the stages that are computed again: of the forced kinds, and all made from them."""
    forced = {stage.fingerprint for stage in plan.unique() if stage.kind in force}
    return frozenset(name for name, above in upstream(plan).items() if name in forced or not forced.isdisjoint(above))


def to_compute(plan: Plan, store: Store, *, until: StageKind | None, force: Collection[StageKind]) -> frozenset[str]:
    """Return the fingerprints of the stages that a run computes; reads no more than whether results are there."""
    again = renewed(plan, force)
    return frozenset(
        stage.fingerprint
        for variant in plan.variants
        for stage in variant.until(until)
        if stage.fingerprint in again or not store.entry(stage.fingerprint).complete
    )
