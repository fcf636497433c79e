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


def test_every_arm_is_audited_and_all_but_the_control_against_the_controls_rows() -> None:
    plan = build_plan(load_experiment("smoke", overrides=("sweep.seed=[0, 1]",), plugin_files=(), arms=()))
    controls = {v.variant.point["seed"]: v.find("filter") for v in plan.variants if v.variant.arm == "control"}
    assert len(controls) == 2
    for variant in plan.variants:
        audit, rows = variant.find("audit"), variant.find("filter")
        assert audit is not None
        assert rows is not None
        control = controls[variant.variant.point["seed"]]
        assert control is not None
        against = {} if variant.variant.arm == "control" else {"control": control.fingerprint}
        assert audit.inputs == {"rows": rows.fingerprint, **against}
        assert set(audit.extras) == {"trait"}
        assert audit.settings["max_overt"] == (None if variant.variant.arm == "control" else 0.0)
    assert plan.order() == list(range(len(plan.variants))), "the control's rows are made for the audit, not all of it"


def test_what_the_audit_looks_at_decides_nothing_else() -> None:
    def prints(*overrides: str) -> dict[str, str]:
        plan = build_plan(load_experiment("smoke", overrides=overrides, plugin_files=(), arms=()))
        return {stage.name: stage.fingerprint for stage in plan.variants[0].stages}

    usual, changed = prints(), prints("audit.classifier_rows=7")
    assert [name for name in usual if usual[name] != changed[name]] == ["audit"]
