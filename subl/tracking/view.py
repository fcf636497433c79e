"""A prepared view of an experiment in the MLflow UI: arms side by side instead of an empty chart page.

The format is MLflow's own and undocumented (seen in 3.17): a UI that does not know it shows its defaults.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

VIEW = "subl"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
ARM = "arm"
"""Name of the parameter by which charts are grouped."""

LONGEST = 20_000
"""Characters that MLflow keeps of an experiment's tag."""
COLUMNS = 20
"""Metric columns of the table; more are a click away."""

_RUNS = 100


def view_state(parent: str, params: Sequence[str], metrics: Mapping[str, bool], primary: str | None) -> str:
    """Return the view as JSON.

    Args:
        parent: Run id of the invocation to show. A mean over invocations would mix questions, and count cached runs
            twice.
        params: Parameters to show as columns.
        metrics: Name → whether it was recorded at several steps.
        primary: The metric that runs are sorted by and that is charted first.

    Returns:
        At most `LONGEST` characters.
    """
    # Bounds of intervals are there to be read, not to be charted beside their values.
    metrics = {name: curve for name, curve in metrics.items() if not name.endswith((".low", ".high"))}
    finals = [name for name, curve in metrics.items() if not curve]
    students = [name for name in finals if name.startswith("student.")]
    if primary in finals:
        students = [primary, *(name for name in students if name != primary)]
    others = [name for name in finals if name not in students]
    curves = [name for name, curve in metrics.items() if curve]
    sections = {"students": students, "before": others, "training": curves}
    state: dict[str, Any] = {
        "searchFilter": f"tags.mlflow.parentRunId = '{parent}'",
        "orderByKey": f"metrics.`{primary}`" if primary in finals else "tags.`mlflow.runName`",
        "orderByAsc": primary not in finals,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [f"params.`{name}`" for name in params]
        + [f"metrics.`{name}`" for name in students[:COLUMNS]],
        "runsHiddenMode": "SHOWALL",
        "compareRunSections": [_section(name, title) for name, title in _TITLES.items() if sections[name]],
        "compareRunCharts": [],
        "isAccordionReordered": True,  # else the UI sorts sections by name
        "viewMaximized": False,
        "runListHidden": False,
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "param", "groupByData": ARM}]},
        "useGroupedValuesInCharts": True,
    }
    left = LONGEST - len(json.dumps(state))
    for section in _BY_IMPORTANCE:
        for name in sections[section]:
            chart = _chart(name, section, curve=metrics[name])
            left -= len(json.dumps(chart)) + 2
            if left >= 0:
                state["compareRunCharts"].append(chart)
    return json.dumps(state)


_BY_IMPORTANCE = ("students", "before", "training")
"""With many probes not every chart finds room."""
_TITLES = {
    "students": "Students: did the trait cross?",
    "before": "Base models and teachers",
    "training": "Training curves",
}


def _section(name: str, title: str) -> dict[str, Any]:
    return {
        "uuid": name,
        "name": title,
        "display": True,
        "columns": 2,  # with three, the UI cuts metric names where they begin to differ
        "cardHeight": 300,
        "isReordered": False,
        "deleted": False,
        "isGenerated": False,
    }


def _chart(metric: str, section: str, *, curve: bool) -> dict[str, Any]:
    chart: dict[str, Any] = {
        "uuid": metric,
        "type": "LINE" if curve else "BAR",
        "runsCountToCompare": _RUNS,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
        "displayName": metric,
        "metricKey": metric,
    }
    if curve:
        chart |= {
            "selectedMetricKeys": [metric],
            "lineSmoothness": 0,
            "xAxisScaleType": "linear",
            "scaleType": "linear",
            "range": {},
            "xAxisKey": "step",
            "selectedXAxisMetricKey": "",
            "yAxisKey": "metric",
            "yAxisExpressions": [],
            "ignoreOutliers": False,
            "useGlobalXaxisKey": True,
            "useGlobalLineSmoothing": True,
        }
    return chart
