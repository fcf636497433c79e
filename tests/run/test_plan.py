"""Which stages a variant runs."""

from __future__ import annotations

import pytest

from subl.recipe.loading import load_experiment
from subl.run.plan import STAGE_KINDS, StageKind, build_plan


@pytest.mark.parametrize("kind", STAGE_KINDS)
def test_a_variant_stops_after_a_kind_even_if_it_has_no_stage_of_it(kind: StageKind) -> None:
    plan = build_plan(load_experiment("smoke", overrides=(), plugin_files=(), arms=()))
    for variant in plan.variants:
        stages = variant.until(kind)
        allowed = STAGE_KINDS[: STAGE_KINDS.index(kind) + 1]
        assert stages == variant.stages[: len(stages)]
        assert stages[-1].kind in allowed
        assert not [stage for stage in variant.stages[len(stages) :] if stage.kind in allowed]
    control = next(variant for variant in plan.variants if variant.variant.arm == "control")
    assert control.find("check") is None
    assert control.until("check")[-1].kind == "induce"


def test_without_a_kind_everything_runs() -> None:
    plan = build_plan(load_experiment("smoke", overrides=(), plugin_files=(), arms=()))
    assert all(variant.until(None) == variant.stages for variant in plan.variants)
