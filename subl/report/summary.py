"""From findings to the final table, and to what it shows in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from subl.report.arms import Arm, compare_arms
from subl.report.remarks import sentences, warnings
from subl.report.runs import read_runs


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run found, ready to be shown.

    Args:
        title: The question that the recipe asks.
        run: The run's id.
        status: How the run ended.
        metric: Primary metric, "<probe>.<measure>".
        control: Name of the control arm.
        arms: In the recipe's order; an arm with other sweep values than the seed appears once for each.
        sentences: What the table shows, in plain words.
        warnings: What limits it: failures, missing controls, invalid answers, runs without a partner.
    """

    title: str
    run: str
    status: str
    metric: str
    control: str
    arms: tuple[Arm, ...]
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]


def summarise(findings: Mapping[str, Any]) -> Summary:
    """Compute the final table from the content of findings.json.

    Raises:
        StoreError: Another version of subl wrote the findings.
    """
    runs = read_runs(findings)
    metric, control = findings["metric"], findings["control"]
    arms = tuple(compare_arms(runs, metric, control))
    return Summary(
        title=findings.get("title") or findings.get("recipe") or "",
        run=findings.get("run", ""),
        status=findings.get("status", "finished"),
        metric=metric,
        control=control,
        arms=arms,
        sentences=tuple(sentences(arms, metric, control)),
        warnings=tuple(warnings(arms, metric, control)),
    )
