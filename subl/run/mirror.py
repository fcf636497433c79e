"""The tracker's view of a run: which metric, table and file goes to which tracked run, under which name."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from subl.artifacts import Dataset, Findings
from subl.run.plan import Plan, Stage
from subl.run.record import RunRecord, Status
from subl.run.store import Entry, Metric, digest
from subl.tracking.tracker import METRIC_TAG, MetricPoint, RunStatus, Tracker

_STATUS: Mapping[Status, RunStatus] = {
    "finished": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "running": "KILLED",
}
FILES = ("recipe.json", "environment.json", "analysis.json", "findings.json", "report.html")
"""Files of the run folder that belong to the parent run."""
NO_PARAMETERS = ("tracking", "plugins", "needs", "time")
"""Parts of a recipe that decide nothing."""
_BATCH = 64


class Mirror:
    """Tells a tracker what happens: a parent run for the invocation, a child per variant."""

    def __init__(self, tracker: Tracker, plan: Plan, record: RunRecord) -> None:
        self._tracker = tracker
        self._plan = plan
        self._record = record
        self._pending: dict[int, list[MetricPoint]] = {}
        self._live: dict[int, set[tuple[str, int]]] = {}
        self._tags = {"subl.run": record.id, "subl.folder": str(record.folder)}
        metric = plan.variants[0].variant.recipe.report.metric
        params = {"recipe": plan.experiment.name, "title": plan.experiment.title}
        tracker.start(record.id, params=params, tags={**self._tags, METRIC_TAG: metric})

    def begin(self, position: int) -> None:
        """Open a variant's run."""
        plan = self._plan.variants[position]
        recipe = json.loads(plan.variant.recipe.to_json())
        params = {
            "arm": plan.variant.arm,
            **{key: value for key, value in recipe.items() if key not in NO_PARAMETERS},
        }
        self._tracker.start_child(
            str(position), plan.label, params=params, tags={**self._tags, "subl.arm": plan.variant.arm}
        )

    def live(self, position: int, stage: Stage, metric: Metric) -> None:
        """Pass a running stage's metric on, in batches."""
        pending = self._pending.setdefault(position, [])
        pending.append(_point(f"{_section(stage)}/{metric.name}", metric.value, metric.step))
        self._live.setdefault(position, set()).add((pending[-1].name, pending[-1].step))
        if len(pending) >= _BATCH:
            self._flush(position)

    def stage(self, position: int, stage: Stage, entry: Entry, *, cached: bool) -> None:
        """Record a finished stage, with the metrics that an earlier run computed: curves are whole in every run."""
        key, slug = str(position), _section(stage)
        self._flush(position)
        known = self._live.get(position, set())
        points = [_point(f"{slug}/{metric.name}", metric.value, metric.step) for metric in entry.metrics()]
        self._tracker.metrics(key, [point for point in points if (point.name, point.step) not in known])
        self._tracker.tags(
            key, {f"subl.fingerprint.{slug}": stage.fingerprint, f"subl.cached.{slug}": str(cached).lower()}
        )
        artifact = entry.artifact()
        if isinstance(artifact, Findings):
            self._findings(key, "check" if stage.kind == "check" else stage.name, artifact)
        elif isinstance(artifact, Dataset) and stage.kind == "filter":
            name = f"{self._plan.experiment.name}-{self._plan.variants[position].variant.arm}"
            self._tracker.dataset(key, artifact.path, name=name, digest=digest(artifact.path)[:32], rows=artifact.rows)

    def end(self, position: int, status: Status, variant: Mapping[str, Any]) -> None:
        """Close a variant's run, with its figures."""
        key = str(position)
        self._flush(position)
        for name, figures in variant["figures"].items():
            for figure in figures:
                self._tracker.file(key, self._record.folder / figure, f"figures/{name}")
        if variant["error"]:
            self._tracker.tags(key, {"subl.error": variant["error"][:4000]})
        self._tracker.finish_child(key, _STATUS[status])

    def file(self, name: str) -> None:
        """Attach a file of the run folder to the parent run."""
        path = self._record.folder / name
        if path.is_file():
            self._tracker.file(None, path, "")

    def finish(self, status: Status) -> None:
        """Close the parent run."""
        for name in FILES:
            self.file(name)
        self._tracker.finish(_STATUS[status])

    def _findings(self, key: str, name: str, findings: Findings) -> None:
        points = []
        for measure, found in findings.measures.items():
            points.append(_point(f"{name}.{measure}", found.value, None))
            if found.low is not None and found.high is not None:
                points.append(_point(f"{name}.{measure}.low", found.low, None))
                points.append(_point(f"{name}.{measure}.high", found.high, None))
        self._tracker.metrics(key, points)
        for table, content in findings.tables.items():
            self._tracker.table(key, f"{name}.{table}", content)

    def _flush(self, position: int) -> None:
        if pending := self._pending.pop(position, None):
            self._tracker.metrics(str(position), pending)


def _section(stage: Stage) -> str:
    return stage.name.replace(" ", "_")


def _point(name: str, value: float, step: int | None) -> MetricPoint:
    return MetricPoint(name, value, step or 0, int(time.time() * 1000))
