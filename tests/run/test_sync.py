"""A run folder, told to a tracker again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from subl.artifacts import Table
from subl.errors import StoreError
from subl.run.sync import sync_run, synced, tell
from subl.tracking.tracker import MetricPoint, NullTracker
from tests.report.forged import findings, three_arms, variant


class Recording(NullTracker):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.children: dict[str, Mapping[str, Any]] = {}
        self.points: dict[str | None, list[MetricPoint]] = {}
        self.tables: list[str] = []
        self.files: list[str] = []
        self.datasets: list[tuple[str, Path, str, str, int]] = []
        self.status: dict[str, str] = {}

    def start_child(self, key: str, name: str, *, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        self.children[name] = params

    def metrics(self, key: str | None, points: Sequence[MetricPoint]) -> None:
        self.points.setdefault(key, []).extend(points)

    def table(self, key: str, name: str, table: Table) -> None:
        self.tables.append(name)

    def file(self, key: str | None, path: Path, folder: str = "") -> None:
        self.files.append(path.name)

    def dataset(self, key: str, path: Path, *, name: str, digest: str, rows: int) -> None:
        self.datasets.append((key, path, name, digest, rows))

    def finish_child(self, key: str, status: str) -> None:
        self.status[key] = status

    def finish(self, status: str) -> None:
        self.status[""] = status


def _folder(tmp_path: Path, record: Mapping[str, Any]) -> Path:
    labels = [v["label"] for v in record["variants"]]
    recipes = [
        {"label": label, "recipe": {"seed": 3, "needs": "CPU", "tracking": {"enabled": True}}} for label in labels
    ]
    (tmp_path / "findings.json").write_text(json.dumps(record))
    (tmp_path / "recipe.json").write_text(json.dumps({"variants": recipes}))
    curve = {"variant": labels[0], "stage": "student model", "kind": "model", "name": "loss"}
    lines = [json.dumps({**curve, "value": value, "step": step}) for step, value in ((1, 2.0), (2, None), (3, 1.0))]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"cut')
    return tmp_path


def test_a_tracker_is_told_what_it_would_have_been_told_then(tmp_path: Path) -> None:
    record = three_arms(1)
    record["variants"][1] = variant("control", 0, None, status="failed", error="boom")
    rows = tmp_path / "rows.jsonl"
    record["variants"][0]["data"] |= {"path": str(rows), "sha256": "ab" * 32}
    tracker = Recording()
    tell(tracker, _folder(tmp_path, record))
    assert tracker.children["main · seed=0"] == {"arm": "main", "seed": 3}
    points = {point.name: point.value for point in tracker.points["0"]}
    assert points["student.preference.share"] == pytest.approx(0.7)
    assert points["student.preference.share.low"] == pytest.approx(0.68)
    assert [(p.value, p.step) for p in tracker.points["0"] if p.name == "student_model/loss"] == [(2.0, 1), (1.0, 3)]
    assert "student.preference.share" not in {point.name for point in tracker.points["1"]}, "not a number"
    assert all(point.time_ms > 1e12 for point in tracker.points["0"])
    assert "student.preference.answers" in tracker.tables
    assert tracker.datasets == [("0", rows, "micro_owl-main", "ab" * 16, 8000)], (
        "earlier runs do not say where theirs are"
    )
    assert tracker.files == ["recipe.json", "findings.json"]
    assert tracker.status == {"0": "FINISHED", "1": "FAILED", "2": "FINISHED", "": "FINISHED"}


def test_a_folder_that_is_no_run_is_refused_before_a_tracker_starts(tmp_path: Path) -> None:
    folder = _folder(tmp_path, findings(variant("main", 0, 0.5)))
    (folder / "recipe.json").unlink()
    with pytest.raises(StoreError, match=r"recipe\.json: cannot be read"):
        sync_run(folder, "sqlite:////nowhere/x.db", experiment=None, warn=print)
    assert synced(folder) == []
