"""The run folder: enough to repeat the run, and all that reports and trackers are made from."""

from __future__ import annotations

import json
import math
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from subl.artifacts import Dataset, Findings, Student, Table
from subl.context import FIGURES
from subl.recipe.analysis import analysis_plan
from subl.run.environment import describe_environment
from subl.run.frozen import ANALYSIS_FILE, results_known
from subl.run.owner import EVENTS_FILE, OWNER_FILE, this_process
from subl.run.plan import Plan, Stage, VariantPlan
from subl.run.store import Entry, Metric, digest, write_atomic, writing

FINDINGS_SCHEMA = 1
FINDINGS_FILE = "findings.json"
METRICS_FILE = "metrics.jsonl"
CURVE_POINTS = 1000
"""Of longer curves the run folder keeps a part; the store keeps all points."""
_SAMPLE_ROWS = 8

Status = Literal["running", "finished", "failed", "interrupted"]


class RunRecord:
    """Writes `<home>/runs/<time>-<name>-<id>/`. Findings are rewritten by `write`, which comes before every wait."""

    def __init__(self, home: Path, plan: Plan, *, command: list[str], options: Mapping[str, Any] | None = None) -> None:
        self.plan = plan
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]  # to the millisecond: names sort as runs started
        slug = re.sub(r"[^a-z0-9]+", "-", plan.experiment.name.casefold()).strip("-") or "run"
        self.id = f"{stamp}-{slug}-{secrets.token_hex(3)}"
        self.folder = home / "runs" / self.id
        self.status: Status = "running"
        self._changed = True
        self._lock = threading.Lock()
        self._variants = [_blank(variant) for variant in plan.variants]
        self._analysis = analysis_plan(plan.variants[0].variant.recipe.report)
        self._results_known = bool(self._analysis["expectation"]) and results_known(home, plan, self._analysis)
        with writing(self.folder):
            self.folder.mkdir(parents=True)
            self._freeze(command, options or {})
            self._events = (self.folder / EVENTS_FILE).open("a", encoding="utf-8")
        self.write()

    def event(self, name: str, **facts: Any) -> None:
        """Append one event."""
        line = json.dumps({"time": round(time.time(), 3), "event": name, **facts}, ensure_ascii=False, default=str)
        with self._lock, writing(self.folder):
            self._events.write(line + "\n")
            self._events.flush()

    def stage_done(self, position: int, stage: Stage, entry: Entry, *, cached: bool, seconds: float) -> None:
        """Take a finished stage of variant number `position` into the findings."""
        record = self._variants[position]
        record["stages"].append(
            {
                "stage": stage.name,
                "kind": stage.kind,
                "plugin": stage.plugin,
                "fingerprint": stage.fingerprint,
                "cached": cached,
                "seconds": round(seconds, 2),
            }
        )
        artifact = entry.artifact()
        name = "check" if stage.kind == "check" else stage.name
        if isinstance(artifact, Findings):
            record["findings"][name] = findings_json(artifact)
            self._copy_figures(record, name, entry)
        elif isinstance(artifact, Dataset) and stage.kind == "filter":
            record["data"] = {
                "rows": artifact.rows,
                "seen": artifact.seen,
                "rejected": dict(artifact.rejected),
                "path": str(artifact.path),
                "sha256": digest(artifact.path),
            }
            record["samples"] = [
                {"prompt": row.prompt, "completion": row.completion} for row in islice(artifact, _SAMPLE_ROWS)
            ]
            self._copy_figures(record, name, entry)
        elif isinstance(artifact, Student):
            record["updates"] = artifact.updates
            record["rendering"] = artifact.model.rendering
        self._copy_metrics(record, stage, entry)
        self._changed = True

    def variant_done(self, position: int, status: str, error: str | None = None) -> None:
        """Close a variant."""
        self._variants[position].update(status=status, error=error)
        self._changed = True

    def variant(self, position: int) -> Mapping[str, Any]:
        """Return what is recorded of a variant."""
        return self._variants[position]

    def findings(self) -> dict[str, Any]:
        """Return everything found so far, in the documented schema of findings.json."""
        first = self.plan.variants[0].variant.recipe
        return {
            "schema": FINDINGS_SCHEMA,
            "run": self.id,
            "title": self.plan.experiment.title,
            "recipe": self.plan.experiment.name,
            "status": self.status,
            "control": first.report.control,
            "metric": first.report.metric,
            "analysis": self._analysis,
            "results_known": self._results_known,
            "arms": list(dict.fromkeys(variant.variant.arm for variant in self.plan.variants)),
            "variants": self._variants,
        }

    def write(self) -> None:
        """Write findings.json, unless nothing has changed."""
        if self._changed:
            with writing(self.folder):
                write_atomic(self.folder / FINDINGS_FILE, _json(self.findings()))
            self._changed = False

    def close(self, status: Status) -> None:
        """Write the final status."""
        self.status, self._changed = status, True
        self.event("run", status=status)
        self.write()
        self._events.close()

    def _freeze(self, command: list[str], options: Mapping[str, Any]) -> None:
        experiment = self.plan.experiment
        sources = self.folder / "recipe"
        sources.mkdir()
        for number, path in enumerate(experiment.sources):
            shutil.copyfile(path, sources / _numbered(number, path))
        for number, path in enumerate(experiment.plugin_files):
            (self.folder / "plugins").mkdir(exist_ok=True)
            shutil.copyfile(path, self.folder / "plugins" / _numbered(number, path))
        variants = [
            {
                "label": plan.label,
                "arm": plan.variant.arm,
                "point": dict(plan.variant.point),
                "recipe": json.loads(plan.variant.recipe.to_json()),
                "origins": dict(plan.variant.origins),
            }
            for plan in self.plan.variants
        ]
        stages = {stage.fingerprint: {"name": stage.name, "key": stage.key} for stage in self.plan.unique()}
        write_atomic(self.folder / "recipe.json", _json({"variants": variants}))
        write_atomic(self.folder / "plan.json", _json(stages))
        write_atomic(self.folder / ANALYSIS_FILE, _json(self._analysis))
        write_atomic(self.folder / "environment.json", _json(describe_environment(command, Path.cwd())))
        write_atomic(self.folder / OWNER_FILE, _json({**this_process(), "options": dict(options)}))

    def _copy_metrics(self, record: Mapping[str, Any], stage: Stage, entry: Entry) -> None:
        """Append a stage's metrics: reports and trackers then need the run folder alone."""
        metrics = thinned(entry.metrics())
        about = {"variant": record["label"], "stage": stage.name, "kind": stage.kind}
        lines = [json.dumps(_finite({**about, "name": m.name, "value": m.value, "step": m.step})) for m in metrics]
        with self._lock, writing(self.folder), (self.folder / METRICS_FILE).open("a", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)

    def _copy_figures(self, record: dict[str, Any], name: str, entry: Entry) -> None:
        figures = sorted((entry.folder / FIGURES).glob("*.png"))
        if not figures:
            return
        slug = re.sub(r"[^a-z0-9_]+", "-", str(record["label"]).casefold()).strip("-")
        folder = self.folder / FIGURES / slug
        folder.mkdir(parents=True, exist_ok=True)
        copies = [folder / f"{name}.{path.name}" for path in figures]
        for path, copy in zip(figures, copies, strict=True):
            shutil.copyfile(path, copy)
        record["figures"][name] = [copy.relative_to(self.folder).as_posix() for copy in copies]


def _numbered(number: int, path: Path) -> str:
    """Return a name that keeps files of equal names apart, and their order; one of an earlier run loses its number."""
    return f"{number:02d}-{re.sub(r'^[0-9]{2}-', '', path.name)}"


def thinned(metrics: Sequence[Metric], most: int = CURVE_POINTS) -> Iterator[Metric]:
    """Yield final values, and of every curve at most about so many points, its first and last among them."""
    curves: dict[str, list[Metric]] = {}
    for metric in metrics:
        if metric.step is None:
            yield metric
        else:
            curves.setdefault(metric.name, []).append(metric)
    for curve in curves.values():
        every = -(-len(curve) // most)
        yield from (point for i, point in enumerate(curve) if i % every == 0 or i == len(curve) - 1)


def findings_json(findings: Findings) -> dict[str, Any]:
    """Return findings as JSON values."""
    return {
        "measures": {name: measure._asdict() for name, measure in sorted(findings.measures.items())},
        "tables": {name: table_json(table) for name, table in sorted(findings.tables.items())},
        "remarks": list(findings.remarks),
        "problems": list(findings.problems),
    }


def table_json(table: Table) -> dict[str, Any]:
    """Return a table as JSON values."""
    return {"columns": list(table.columns), "rows": [list(row) for row in table.rows]}


def _blank(plan: VariantPlan) -> dict[str, Any]:
    recipe = plan.variant.recipe
    return {
        "arm": plan.variant.arm,
        "point": dict(plan.variant.point),
        "label": plan.label,
        "seed": recipe.seed,
        "target": getattr(recipe.trait.config, "target", None) if recipe.trait else None,
        "status": "missing",
        "error": None,
        "findings": {},
        "stages": [],
        "data": None,
        "samples": [],
        "updates": None,
        "rendering": None,
        "figures": {},
    }


def _json(value: Any) -> str:
    return json.dumps(_finite(value), indent=1, ensure_ascii=False, default=str) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
