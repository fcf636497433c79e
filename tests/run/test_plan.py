"""Which stages a variant runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import subl
from subl.models.hub import Hub
from subl.recipe.loading import load_experiment
from subl.run.plan import STAGE_KINDS, StageKind, build_plan
from subl.testing import micro_run


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


@pytest.mark.parametrize("recipe", ["llama_entanglement", "mistral_entanglement"])
def test_probing_a_base_alone_trains_nothing(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "identity", lambda self: {})  # which would ask the hub
    plan = build_plan(load_experiment(recipe))
    stages = [stage.kind for stage in plan.variants[0].until("probe")]
    assert stages[-1] == "probe"
    assert not {"generate", "distill"} & set(stages)


def test_without_a_kind_everything_runs() -> None:
    plan = build_plan(load_experiment("smoke", overrides=(), plugin_files=(), arms=()))
    assert all(variant.until(None) == variant.stages for variant in plan.variants)


def test_a_probe_that_lets_the_generator_write_brings_what_that_reads() -> None:
    overrides = ('probes=[{plugin="capability"}]', 'report.metric="capability.carrier_change"')
    plan = build_plan(load_experiment("micro_hp_vs_lp", overrides=overrides))
    probes = [stage for stage in plan.variants[0].stages if stage.kind == "probe"]
    assert len(probes) == 3
    assert all(set(stage.extras) == {"generator", "trait"} for stage in probes)
    plain = build_plan(load_experiment("smoke", overrides=overrides))
    assert all(set(s.extras) == {"generator"} for s in plain.variants[0].stages if s.kind == "probe")


class Writer:
    """Says under which system prompt the teacher writes."""

    version = 1
    needs = ("generator", "teacher")

    class Config(subl.PluginConfig):
        pass

    def __init__(self, config: Config) -> None:
        self.config = config

    def probe(self, subject: subl.Subject, ctx: subl.Context) -> subl.Findings:
        return subl.Findings({"measure": subl.Measure(1.0)}, remarks=(f"{ctx.teacher.model.system}",))


@pytest.mark.parametrize("system", [None, "Count."])
def test_a_probe_gets_the_teacher_as_it_writes_rows(system: str | None, tmp_path: Path) -> None:
    changes: Any = {"chat": {"generation_system": system}} if system else {}
    run = micro_run(tmp_path, "probe", Writer, changes=changes)
    assert {run.findings(role).remarks for role in ("base", "teacher", "student")} == {(f"{system}",)}


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
