"""A run folder, mirrored into a tracking store later: the same metrics, tables and files as while it ran."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from subl.artifacts import Table
from subl.errors import StoreError
from subl.run.mirror import FILES, NO_PARAMETERS
from subl.run.record import FINDINGS_FILE, METRICS_FILE
from subl.run.restore import read_json
from subl.run.store import write_atomic, writing
from subl.tracking.tracker import METRIC_TAG, MetricPoint, RunStatus, Tracker, open_tracker

SYNCED = "synced.json"
_STATUS: Mapping[str, RunStatus] = {"finished": "FINISHED", "failed": "FAILED"}


def synced(folder: Path) -> list[str]:
    """Return the addresses that a run was mirrored to."""
    path = folder / SYNCED
    return [str(uri) for uri in read_json(path).get("to", [])] if path.is_file() else []


def sync_run(folder: Path, uri: str, *, experiment: str | None, warn: Callable[[str], None]) -> Mapping[str, str]:
    """Mirror a run folder; return where it can be seen.

    Args:
        folder: The run folder.
        uri: MLflow server or database.
        experiment: MLflow experiment; the recipe's name if None.
        warn: Called if the store cannot be reached.

    Raises:
        StoreError: The run folder cannot be read.
    """
    findings = read_json(folder / FINDINGS_FILE)
    read_json(folder / "recipe.json")
    failed: list[str] = []
    tracker = open_tracker(
        enabled=True,
        uri=uri,
        experiment=experiment or str(findings.get("recipe") or folder.name),
        home=folder.absolute().parent.parent,
        warn=failed.append,
    )
    tell(tracker, folder)
    for message in failed:
        warn(message)
    if not failed:
        with writing(folder):
            write_atomic(folder / SYNCED, json.dumps({"to": [*synced(folder), uri]}) + "\n")
    return tracker.links()


def tell(tracker: Tracker, folder: Path) -> None:
    """Tell a tracker everything about a run, and close it.

    Raises:
        StoreError: The run folder cannot be read; the tracked run is then closed as killed.
    """
    findings = read_json(folder / FINDINGS_FILE)
    try:
        recipes = {v["label"]: v["recipe"] for v in read_json(folder / "recipe.json")["variants"]}
        _tell(tracker, folder, findings, recipes)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        tracker.finish("KILLED")
        raise StoreError(f"{folder}: not in the form that this version of subl writes ({error!r})") from error


def _tell(tracker: Tracker, folder: Path, findings: Mapping[str, Any], recipes: Mapping[str, Any]) -> None:
    tags = {"subl.run": findings["run"], "subl.folder": str(folder)}
    params = {"recipe": findings["recipe"], "title": findings["title"]}
    tracker.start(findings["run"], params=params, tags={**tags, METRIC_TAG: findings["metric"]})
    curves, now = _curves(folder), int((folder / FINDINGS_FILE).stat().st_mtime * 1000)
    for position, variant in enumerate(findings["variants"]):
        key, label = str(position), variant["label"]
        recipe = {k: v for k, v in recipes.get(label, {}).items() if k not in NO_PARAMETERS}
        child = {**tags, "subl.arm": variant["arm"]}
        tracker.start_child(key, label, params={"arm": variant["arm"], **recipe}, tags=child)
        points = [*curves.get(label, ()), *_finals(variant)]
        tracker.metrics(key, [point._replace(time_ms=now) for point in points])
        data = variant.get("data") or {}
        if "path" in data:
            name = f"{findings['recipe']}-{variant['arm']}"
            tracker.dataset(key, Path(data["path"]), name=name, digest=data["sha256"][:32], rows=data["rows"])
        for name, found in variant["findings"].items():
            for title, table in found.get("tables", {}).items():
                content = Table(tuple(table["columns"]), tuple(map(tuple, table["rows"])))
                tracker.table(key, f"{name}.{title}", content)
        for name, paths in variant["figures"].items():
            for path in paths:
                if (folder / path).is_file():
                    tracker.file(key, folder / path, f"figures/{name}")
        if variant["error"]:
            tracker.tags(key, {"subl.error": variant["error"][:4000]})
        tracker.finish_child(key, _STATUS.get(variant["status"], "KILLED"))
    for name in FILES:
        if (folder / name).is_file():
            tracker.file(None, folder / name)
    tracker.finish(_STATUS.get(findings["status"], "KILLED"))


def _finals(variant: Mapping[str, Any]) -> Iterator[MetricPoint]:
    for name, found in variant["findings"].items():
        for measure, numbers in found["measures"].items():
            for suffix, value in (("", "value"), (".low", "low"), (".high", "high")):
                if numbers.get(value) is not None:
                    yield MetricPoint(f"{name}.{measure}{suffix}", numbers[value], 0, 0)


def _curves(folder: Path) -> dict[str, list[MetricPoint]]:
    path = folder / METRICS_FILE
    found: dict[str, list[MetricPoint]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            record = json.loads(line)
            name = f"{record['stage'].replace(' ', '_')}/{record['name']}"
            point = MetricPoint(name, record["value"], record["step"] or 0, 0)
            if record["value"] is not None:
                found.setdefault(record["variant"], []).append(point)
        except (ValueError, KeyError, TypeError):
            continue  # a kill can cut the last line
    return found
