"""What is said of a contrast, and what becomes of an expectation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from subl.report.contrasts import Contrast
from subl.report.summary import Summary, summarise
from subl.report.verdicts import Verdict
from tests.report.forged import failed, findings, variant


def _run(main: list[float | None], control: list[float], **changes: Any) -> dict[str, Any]:
    runs = [variant("main", seed, share) for seed, share in enumerate(main)]
    return findings(*runs, *(variant("control", seed, share) for seed, share in enumerate(control)), **changes)


def _main(record: dict[str, Any]) -> tuple[Contrast, Verdict]:
    return next((c, v) for c, v in summarise(record).judged if c.name == "main")


def _plan(**changes: Any) -> dict[str, Any]:
    plan: dict[str, Any] = {
        "control": "control",
        "metric": "preference.share",
        "contrasts": [],
        "smallest_effect": None,
    }
    return {**plan, "expectation": None, **changes}


CONTROL = [0.10, 0.11, 0.09, 0.10]


@pytest.mark.parametrize(
    ("main", "kind", "reason"),
    [
        ([0.70, 0.74, 0.66, 0.71], "transferred", "p < 0.001 (paired t)"),
        ([0.11, 0.10, 0.10, 0.09], "none", "this design sees lifts from 0.0"),
        ([0.05, 0.062, 0.041, 0.05], "below", "p < 0.001"),
        ([0.9, 0.1, 0.5, 0.1], "inconclusive", "would matter (a quarter of the teacher's own lift)"),
        ([0.7], "inconclusive", "the spread over runs is unknown"),
    ],
)
def test_each_verdict_follows_from_the_pairs(main: list[float | None], kind: str, reason: str) -> None:
    _, verdict = _main(_run(main, CONTROL))
    assert verdict.kind == kind
    assert reason in verdict.reason


def _mirrored(record: dict[str, Any]) -> dict[str, Any]:
    """Measure how little of the trait there is instead of how much."""
    for run in record["variants"]:
        for found in run["findings"].values():
            share = found["measures"].get("share")
            if share is not None:
                share |= {"value": 1 - share["value"], "low": 1 - share["high"], "high": 1 - share["low"]}
    return record | {"analysis": _plan(better="lower")}


@pytest.mark.parametrize(
    ("main", "kind", "text"),
    [
        ([0.70, 0.74, 0.66, 0.71], "transferred", "−0.603 [−0.642, −0.563] against control, below it in 4 of 4 pairs"),
        ([0.11, 0.10, 0.10, 0.09], "none", "this design sees lifts from −0.0"),
        ([0.05, 0.062, 0.041, 0.05], "above", "p < 0.001"),
        ([0.9, 0.1, 0.5, 0.1], "inconclusive", "−0.212 would matter (a quarter of the teacher's own lift)"),
        ([0.7], "inconclusive", "the spread over runs is unknown"),
    ],
)
def test_where_less_is_more_of_the_trait_verdicts_are_mirrored(main: list[float | None], kind: str, text: str) -> None:
    summary = summarise(_mirrored(_run(main, CONTROL)))
    verdict = next(verdict for contrast, verdict in summary.judged if contrast.name == "main")
    assert verdict.kind == kind
    assert any(text in sentence for sentence in summary.sentences if sentence.startswith("main"))


def test_a_null_needs_a_design_that_could_have_seen_an_effect() -> None:
    main: list[float | None] = [0.12, 0.08, 0.11, 0.10]
    assert _main(_run(main, CONTROL))[1].kind == "none"
    strict = _main(_run(main, CONTROL, analysis=_plan(smallest_effect=0.01)))[1]
    assert strict.kind == "inconclusive"
    assert "0.010 would matter ([report] smallest_effect): more seeds are needed" in strict.reason


def test_the_correction_counts_every_contrast_of_the_run() -> None:
    arms = [f"arm{number}" for number in range(8)]
    shares = {"main": [0.14, 0.15, 0.11, 0.13, 0.14]} | {arm: [0.1, 0.12, 0.09, 0.1, 0.11] for arm in arms}
    shares["control"] = [0.10, 0.12, 0.10, 0.09, 0.13]
    record = findings(*(variant(arm, seed, share) for arm, row in shares.items() for seed, share in enumerate(row)))
    contrast, verdict = _main(record)
    assert contrast.family == 9
    assert contrast.evidence.t < 0.05 < contrast.adjusted
    assert verdict.kind == "inconclusive"
    assert "by itself" in verdict.reason
    assert "among 9 contrasts" in verdict.reason
    alone = record | {"analysis": _plan(contrasts=["main"])}
    assert _main(alone)[1].kind == "transferred"


def _with(arm: str, **changes: Any) -> dict[str, Any]:
    record = _run([0.7, 0.74, 0.66], CONTROL[:3])
    for number, run in enumerate(record["variants"]):
        if run["arm"] == arm:
            for path, value in changes.items():
                name, _, field = path.partition("__")
                found = run["findings"].setdefault(
                    name.replace("_", ".", 1) if name not in ("check", "audit") else name, {}
                )
                found.setdefault("measures", {})
                target = found["measures"] if field not in ("problems",) else found
                target[field] = value if field == "problems" else {**found["measures"].get(field, {}), "value": value}
            record["variants"][number] = run
    return record


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (_with("main", student_preference__valid=0.2), "3 of 3 students of main gave few valid answers (valid share"),
        (_with("control", student_preference__valid=0.2), "3 of 3 students of control gave few valid answers"),
        (_with("main", check__problems=["lift 0.01"]), "the teacher did not pass its check: lift 0.01 (and 2 more)"),
        (_with("main", teacher_preference__share=0.1), "the teacher is weak: its own preference.share is not above"),
        (_with("main", audit__problems=["a leak: 12 rows name owls"]), "audit found in main · seed=0: a leak: 12 rows"),
        (_run([0.7], []), "main: invalid"),
        (
            findings(variant("main", 0, 0.7), variant("control", 1, 0.1)),
            "no run of main and control has a partner with",
        ),
        (findings(failed("main", 0), variant("control", 0, 0.1)), "no run of main has a value of preference.share"),
    ],
    ids=["valid", "valid of the control", "check", "weak teacher", "leak", "no control", "unpaired", "failed"],
)
def test_what_makes_a_comparison_worthless_is_named_instead_of_a_result(record: dict[str, Any], reason: str) -> None:
    summary = summarise(record)
    if not any(run["arm"] == "control" for run in record["variants"]):
        assert summary.judged == ()
        assert any("no arm 'control'" in warning for warning in summary.warnings)
        return
    _, verdict = _main(record)
    assert verdict.kind == "invalid"
    assert verdict.reason.startswith("because ")
    assert reason in verdict.reason


def test_a_valid_share_is_judged_by_the_base_models_own() -> None:
    record = _with("main", student_preference__valid=0.3, base_preference__valid=0.4)
    assert _main(record)[1].kind == "transferred"


def test_an_arm_whose_teacher_has_no_trait_on_purpose_is_not_called_weak() -> None:
    record = _with("main", teacher_preference__share=0.1)
    for run in record["variants"]:
        del run["findings"]["check"]
    assert _main(record)[1].kind == "transferred"


def test_a_teacher_is_weighed_against_the_model_that_it_was_made_from() -> None:
    """The student of another initialisation starts higher than the teacher ends."""
    record = _run([0.95, 0.97, 0.93], CONTROL[:3])
    for run in record["variants"]:
        other = run["arm"] == "main"
        names = {"teacher model": "model-a", "student model": "model-b" if other else "model-a"}
        run["stages"] = [
            {"stage": name, "kind": "model", "plugin": "x", "fingerprint": fp} for name, fp in names.items()
        ]
        if other:
            run["findings"]["base.preference"]["measures"]["share"]["value"] = 0.96
    contrast, verdict = _main(record)
    assert contrast.teacher_gain == pytest.approx(0.85)
    assert verdict.kind == "none"
    for run in record["variants"]:
        run["stages"][0]["fingerprint"] = "model-c"
    assert np.isnan(_main(record)[0].teacher_gain)


def test_named_contrasts_replace_the_default_ones_and_missing_arms_are_said() -> None:
    shares = {"main": 0.7, "control": 0.1, "shd": 0.4}
    runs = [variant(arm, seed, share * (1 + seed / 100)) for arm, share in shares.items() for seed in range(3)]
    summary = summarise(findings(*runs, analysis=_plan(contrasts=["main vs shd", "sft", "shd vs none"])))
    ((contrast, verdict),) = summary.judged
    assert (contrast.label, verdict.kind) == ("main vs shd", "transferred")
    assert contrast.paired.mean.value == pytest.approx(0.303)
    assert any("contrast 'sft' is not judged: arm 'sft' was not run" in warning for warning in summary.warnings)
    assert any("there is no 'none' with the same settings" in warning for warning in summary.warnings)
    assert any(sentence.startswith("shd: share") for sentence in summary.sentences), "arms without a contrast are said"


def test_every_setting_of_a_sweep_is_a_contrast_of_its_own() -> None:
    runs = [
        variant(arm, seed, 0.1 + (arm == "main") * rows / 100, point={"seed": seed, "data.rows": rows})
        for arm in ("main", "control")
        for rows in (10, 20)
        for seed in range(2)
    ]
    assert [c.label for c, _ in summarise(findings(*runs)).judged] == ["main · rows=10", "main · rows=20"]


def _expected(direction: str, threshold: float, main: list[float | None]) -> Summary:
    plan = _plan(expectation={"contrast": "main", "direction": direction, "threshold": threshold})
    return summarise(_run(main, CONTROL[: len(main)], analysis=plan))


HIGH: list[float | None] = [0.70, 0.74, 0.66, 0.71]
FLAT: list[float | None] = [0.11, 0.10, 0.10, 0.09]


@pytest.mark.parametrize(
    ("direction", "threshold", "main", "outcome"),
    [
        ("above", 0.0, HIGH, "met"),
        ("above", 0.3, HIGH, "met"),
        ("above", 0.6, HIGH, "undecided"),
        ("above", 0.8, HIGH, "not met"),
        ("above", 0.1, FLAT, "not met"),
        ("below", 0.0, HIGH, "not met"),
        ("below", 0.0, FLAT, "undecided"),
        ("within", 0.1, FLAT, "met"),
        ("within", 0.001, FLAT, "undecided"),
        ("within", 0.1, HIGH, "not met"),
        ("above", 0.0, [0.7], "not judged"),
    ],
)
def test_an_expectation_is_judged_by_the_whole_interval(
    direction: str, threshold: float, main: list[float | None], outcome: str
) -> None:
    judgement = _expected(direction, threshold, main).expectation
    assert judgement is not None
    assert judgement.outcome == outcome
    assert f": {outcome}" in judgement.text
    assert judgement.text.startswith("expected before the run: preference.share lift of main ")


def test_an_expectation_about_an_arm_that_was_not_run_is_not_judged() -> None:
    plan = _plan(expectation={"contrast": "shd", "direction": "above", "threshold": 0})
    judgement = summarise(_run(HIGH, CONTROL, analysis=plan)).expectation
    assert judgement is not None
    assert judgement.outcome == "not judged"


def test_runs_of_versions_without_an_analysis_plan_are_judged_by_the_defaults() -> None:
    assert "analysis" not in _run(HIGH, CONTROL)
    assert _main(_run(HIGH, CONTROL))[1].kind == "transferred"


def test_without_an_effect_few_experiments_are_called_transferred() -> None:
    random = np.random.default_rng(8)
    kinds = []
    for _ in range(150):
        shares = np.clip(random.normal(0.1, 0.02, (3, 4)), 0, 1)
        arms = zip(("main", "other", "control"), shares, strict=True)
        record = findings(*(variant(arm, seed, float(s)) for arm, row in arms for seed, s in enumerate(row)))
        kinds.append(any(verdict.kind == "transferred" for _, verdict in summarise(record).judged))
    assert np.mean(kinds) <= 0.06
