"""From findings to the final table, and to what it shows in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from subl.report.arms import Arm, compare_arms
from subl.report.contrasts import Contrast, contrasts_of
from subl.report.doses import DoseResponse, dose_responses
from subl.report.matrix import TraitMatrix, trait_matrix
from subl.report.remarks import sentences, warnings
from subl.report.runs import read_runs, readable
from subl.report.verdicts import Judgement, Verdict, judge, judge_expectation


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run found, ready to be shown.

    Args:
        title: The question that the recipe asks.
        run: The run's id.
        status: How the run ended.
        metric: Primary metric, "<probe>.<measure>".
        control: Name of the control arm.
        arms: In the recipe's order; an arm with other sweep values than seeds appears once for each.
        judged: Every contrast with its verdict.
        expectation: What became of the author's expectation; None without one.
        matrix: Trait × trait, where students of several traits were trained.
        doses: Lift over every swept number, per arm.
        sentences: What the table shows, in plain words.
        warnings: What limits it: failures, missing controls, invalid answers, runs without a partner.
    """

    title: str
    run: str
    status: str
    metric: str
    control: str
    arms: tuple[Arm, ...]
    judged: tuple[tuple[Contrast, Verdict], ...]
    expectation: Judgement | None
    matrix: TraitMatrix | None
    doses: tuple[DoseResponse, ...]
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]


def summarise(findings: Mapping[str, Any]) -> Summary:
    """Compute the final table from the content of findings.json.

    Raises:
        StoreError: Another version of subl wrote the findings, or they are malformed.
    """
    with readable(findings):
        return _summarise(findings)


def _summarise(findings: Mapping[str, Any]) -> Summary:
    runs = read_runs(findings)
    metric, control = findings["metric"], findings["control"]
    plan: Mapping[str, Any] = findings.get("analysis") or {}
    arms = tuple(compare_arms(runs, metric))
    contrasts, absent = contrasts_of(
        arms, control, plan.get("contrasts") or (), sign=-1 if plan.get("better") == "lower" else 1
    )
    smallest = plan.get("smallest_effect")
    judged = tuple((contrast, judge(contrast, smallest)) for contrast in contrasts)
    if not any(arm.measured for arm in arms):
        judged = ()
    by_label = {contrast.label: (contrast, verdict) for contrast, verdict in judged}
    expected = plan.get("expectation")
    return Summary(
        title=findings.get("title") or findings.get("recipe") or "",
        run=findings.get("run", ""),
        status=findings.get("status", "finished"),
        metric=metric,
        control=control,
        arms=arms,
        judged=judged,
        expectation=judge_expectation(expected, by_label, metric, results_known=bool(findings.get("results_known")))
        if expected
        else None,
        matrix=trait_matrix(runs, metric, control),
        doses=tuple(dose_responses(runs, metric)),
        sentences=tuple(sentences(arms, judged, metric)),
        warnings=tuple(warnings(arms, absent, metric, control)),
    )
