"""Tables of forged experiments: what is computed, and what is said."""

from __future__ import annotations

from typing import Any

import pytest

from subl.errors import StoreError
from subl.report.arms import Arm
from subl.report.cells import table_cells
from subl.report.summary import Summary, summarise
from tests.report.forged import failed, findings, found, three_arms, variant


def _arm(summary: Summary, label: str) -> Arm:
    (arm,) = (arm for arm in summary.arms if arm.label == label)
    return arm


def _said(texts: tuple[str, ...], *words: str) -> bool:
    return any(all(word in text for word in words) for text in texts)


def test_three_seeds_give_means_intervals_over_runs_and_paired_lifts() -> None:
    summary = summarise(three_arms(3))
    main = _arm(summary, "main")
    assert [arm.label for arm in summary.arms] == ["main", "control", "other_init"]
    assert main.student is not None
    assert main.base is not None
    assert main.lift is not None
    assert main.student.value == pytest.approx(0.70)
    assert main.student.interval == "95 % t over 3 runs"
    assert main.base.value == pytest.approx(0.1)
    assert main.lift.mean.value == pytest.approx(0.60)
    assert main.lift.mean.interval == "95 % t over 3 pairs"
    assert (main.lift.above, main.lift.below) == (3, 0)
    assert _arm(summary, "control").lift is None
    assert summary.warnings == ()


def test_the_sentences_say_what_the_intervals_allow() -> None:
    summary = summarise(three_arms(3))
    assert _said(summary.sentences, "main: transferred. share 0.100 → 0.700; +0.600 [+0.525, +0.675]", "3 of 3 pairs")
    assert _said(summary.sentences, "other_init: no transfer detected", "this design sees lifts from 0.0")
    assert _said(summary.sentences, "control: share 0.100 → 0.100", "change +0.000")
    assert _said(summary.sentences, "over trained runs")


def test_one_seed_shows_the_spread_within_the_run_and_says_so() -> None:
    summary = summarise(three_arms(1))
    main = _arm(summary, "main")
    assert main.student is not None
    assert main.lift is not None
    assert main.student.low == pytest.approx(0.68)
    assert main.student.high == pytest.approx(0.72)
    assert main.student.interval == "95 % t over 24 questions"
    assert (main.lift.mean.low, main.lift.mean.high) == (None, None)
    assert _said(summary.sentences, "within that run", "95 % t over 24 questions", "not over runs", "[sweep] seed")
    assert _said(summary.sentences, "main: inconclusive.", "the spread over runs is unknown")
    assert not _said(summary.sentences, "transferred")


def test_a_single_run_does_not_borrow_an_interval_over_questions_for_its_lift() -> None:
    assert _said(summarise(three_arms(1)).sentences, "+0.600 against control, in one pair of runs")


def test_a_missing_control_is_a_warning_and_no_lift() -> None:
    summary = summarise(findings(variant("main", 0, 0.7), variant("main", 1, 0.6)))
    assert _arm(summary, "main").lift is None
    assert _said(summary.warnings, "no arm 'control'")


def test_a_failed_run_is_named_and_the_others_still_report() -> None:
    runs = [variant("main", 0, 0.7), variant("main", 1, 0.6), failed("main", 2)]
    summary = summarise(findings(*runs, *(variant("control", seed, 0.1) for seed in range(3)), status="failed"))
    main = _arm(summary, "main")
    assert (main.measured, len(main.runs)) == (2, 3)
    assert main.lift is not None
    assert main.lift.mean.n == 2
    assert _said(summary.warnings, "main · seed=2 failed", "boom")
    assert not _said(summary.warnings, "more")
    assert _said(summary.warnings, "main and control have no pair for seed=2")


def test_seeds_without_a_partner_are_named() -> None:
    summary = summarise(findings(variant("main", 0, 0.7), variant("main", 1, 0.6), variant("control", 1, 0.1)))
    lift = _arm(summary, "main").lift
    assert lift is not None
    assert lift.differences == {"seed=1": pytest.approx(0.5)}
    assert _said(summary.warnings, "no pair for seed=0")


def test_no_seed_in_common_is_no_lift_and_said() -> None:
    summary = summarise(findings(variant("main", 0, 0.7), variant("control", 1, 0.1)))
    assert _said(summary.warnings, "no pair for seed=0, seed=1")
    assert not _said(summary.sentences, "against")


def test_a_value_that_is_not_a_number_stays_out_of_the_mean_and_is_named() -> None:
    runs = [variant("main", 0, 0.7), variant("main", 1, None), variant("main", 2, 0.5)]
    summary = summarise(findings(*runs, *(variant("control", seed, 0.1) for seed in range(3))))
    main = _arm(summary, "main")
    assert main.student is not None
    assert main.student.value == pytest.approx(0.6)
    assert _said(summary.warnings, "no value of 'preference.share'", "main · seed=1")


def test_few_valid_answers_are_named_run_by_run() -> None:
    collapsed = variant("other_init", 0, 0.5, valid=0.15)
    summary = summarise(findings(variant("main", 0, 0.7), collapsed, variant("control", 0, 0.1)))
    assert _said(summary.warnings, "valid share below 0.9", "other_init · seed=0 (0.150)")
    assert not _said(summary.warnings, "main · seed=0")


def test_runs_that_did_not_get_their_turn_are_named() -> None:
    waiting = {**failed("control", 0), "status": "missing", "error": None}
    summary = summarise(findings(variant("main", 0, 0.7), waiting, status="interrupted"))
    assert _said(summary.warnings, "not finished: control · seed=0")


def test_problems_that_the_check_found_are_repeated() -> None:
    weak = variant("main", 0, 0.7)
    weak["findings"]["check"]["problems"] = ["the teacher is weak"]
    assert _said(summarise(findings(weak)).warnings, "main · seed=0: the teacher is weak")


def test_what_runs_have_in_common_is_warned_of_once() -> None:
    records = [variant(arm, 0, 0.5) for arm in ("main", "sft", "shd")]
    for record in records[:2]:
        record["findings"]["check"]["problems"] = ["the teacher hardly prefers owl"]
    found = [text for text in summarise(findings(*records)).warnings if "hardly" in text]
    assert found == ["main · seed=0, sft · seed=0: the teacher hardly prefers owl"]


def test_an_unknown_metric_lists_what_was_measured() -> None:
    summary = summarise(findings(variant("main", 0, 0.7), metric="preference.shares"))
    assert _said(summary.warnings, "no run has a value of 'preference.shares'", "preference.share", "preference.valid")


def test_any_probe_can_give_the_primary_metric() -> None:
    records = [variant(arm, seed, 0.5) for arm in ("main", "control") for seed in range(2)]
    for number, record in enumerate(records):
        cosine = {**found(0.5), "measures": {"cosine.l3": {**found(0.1 * number)["measures"]["share"]}}}
        record["findings"]["student.geometry"] = cosine
    summary = summarise(findings(*records, metric="geometry.cosine.l3"))
    main = _arm(summary, "main")
    assert main.base is None
    assert main.valid is None
    assert main.lift is not None
    assert main.lift.mean.value == pytest.approx(-0.2)


def test_an_arm_with_a_control_of_its_own_is_compared_with_that() -> None:
    shares = {"main": 0.7, "control": 0.5, "sft": 0.3, "sft_control": 0.1, "extra": 0.6}
    records = [variant(arm, seed, share) for arm, share in shares.items() for seed in range(2)]
    plan = {"contrasts": ["main", "sft vs sft_control", "sft vs main"]}
    summary = summarise(findings(*records, analysis=plan))
    lifts = {arm.name: arm.lift.mean.value for arm in summary.arms if arm.lift}
    assert lifts == pytest.approx({"main": 0.2, "sft": 0.2, "extra": 0.1})
    titles, rows = table_cells(summary)
    place = titles.index("share lift")
    assert {row[0]: row[place].splitlines()[-1] for row in rows} == {
        "main": "vs control",
        "control": "–",
        "sft": "vs sft_control",
        "sft_control": "–",
        "extra": "vs control",
    }


def test_sweeps_other_than_the_seed_get_a_line_each_with_their_own_control() -> None:
    def at(arm: str, seed: int, updates: int, share: float) -> dict[str, Any]:
        return variant(arm, seed, share, point={"seed": seed, "inducer.train.updates": updates})

    runs = [
        at(arm, seed, updates, {"main": 0.5, "control": 0.1}[arm] + seed * 0.01 + updates / 1000)
        for arm in ("main", "control")
        for updates in (30, 60)
        for seed in range(3)
    ]
    summary = summarise(findings(*runs))
    assert [arm.label for arm in summary.arms] == [
        "main · updates=30",
        "main · updates=60",
        "control · updates=30",
        "control · updates=60",
    ]
    lift = _arm(summary, "main · updates=60").lift
    assert lift is not None
    assert lift.mean.value == pytest.approx(0.4)
    assert lift.unpaired == ()


def test_another_target_is_no_control() -> None:
    summary = summarise(findings(variant("main", 0, 0.7), variant("control", 0, 0.1, target="dog")))
    lift = _arm(summary, "main").lift
    assert lift is not None
    assert lift.differences == {}
    assert _said(summary.warnings, "no pair for", "target=owl", "target=dog")


def test_findings_without_any_run_are_a_table_without_lines() -> None:
    summary = summarise(findings())
    assert summary.arms == ()
    assert _said(summary.warnings, "no run has a value")


def test_findings_of_another_version_are_one_clear_error() -> None:
    with pytest.raises(StoreError, match="has schema 99, this version of subl reads 1"):
        summarise(findings(variant("main", 0, 0.7), schema=99))


def test_an_arm_that_starts_from_another_model_is_compared_by_its_change() -> None:
    records = [
        variant(arm, seed, {"main": 0.4, "control": 0.1, "other": 0.55}[arm])
        for arm in ("main", "control", "other")
        for seed in range(2)
    ]
    for record in records[4:]:
        record["findings"]["base.preference"]["measures"]["share"]["value"] = 0.5
    summary = summarise(findings(*records))
    lifts = {contrast.label: contrast.paired.mean.value for contrast, _ in summary.judged}
    assert lifts == {"main": pytest.approx(0.3), "other": pytest.approx(0.05)}
    lift = _arm(summary, "other").lift
    assert lift is not None
    assert lift.mean.value == pytest.approx(0.05)


def _initialised(arm: str, path: str, seed: int, student: int, share: float) -> dict[str, Any]:
    """A run of a swept initialisation; the models are named by the seeds they were initialised with."""
    models = {"teacher model": seed if path.startswith("teacher") else 0, "student model": student}
    stages = [{"stage": stage, "kind": "model", "fingerprint": f"fp-{made}"} for stage, made in models.items()]
    shown = [{**stage, "plugin": "micro", "cached": False, "seconds": 1.0} for stage in stages]
    return variant(arm, 0, share, point={path: seed}, label=f"{arm} · {path}={seed}", stages=shown)


def test_a_swept_seed_of_the_initialisation_makes_replicates() -> None:
    path, shares = "teacher.init_seed", {"main": (0.70, 0.74, 0.66), "control": (0.10, 0.11, 0.09)}
    summary = summarise(
        findings(*(_initialised(arm, path, n, n, value) for arm in shares for n, value in enumerate(shares[arm])))
    )
    assert [arm.label for arm in summary.arms] == ["main", "control"]
    main = _arm(summary, "main")
    assert main.lift is not None
    assert main.lift.mean.interval == "95 % t over 3 pairs"
    assert summary.doses == (), "a seed is no dose"


def test_a_swept_seed_that_decides_who_shares_the_initialisation_makes_conditions() -> None:
    shares = {"main": (0.70, 0.12, 0.10), "control": (0.10, 0.11, 0.09)}
    path = "student.init_seed"
    summary = summarise(
        findings(*(_initialised(arm, path, n, n, value) for arm in shares for n, value in enumerate(shares[arm])))
    )
    assert [arm.label for arm in summary.arms if arm.name == "main"] == [f"main · init_seed={n}" for n in range(3)]
    others = {arm: values[1:] for arm, values in shares.items()}
    summary = summarise(
        findings(*(_initialised(arm, path, n, n, v) for arm in others for n, v in enumerate(others[arm], start=1)))
    )
    assert [arm.label for arm in summary.arms] == ["main", "control"], "all students started elsewhere"
