"""One tracked invocation, read back through the MLflow client."""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from subl.artifacts import Table
from subl.tracking import MetricPoint, Tracker
from subl.tracking.tracker import database_uri
from subl.tracking.view import VIEW_TAG
from tests.tracking.support import reader, runs, tracker

STEPS = 2500
RECIPE = {"trait": {"plugin": "preference", "target": "owl"}, "filters": [{"plugin": "length", "max": 3}]}


class Tracked(NamedTuple):
    home: Path
    warnings: list[str]
    runs: dict[str, Any]
    output: str


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Iterator[Tracked]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        folder = tmp_path_factory.mktemp("tracked ü")
        patch.chdir(folder)
        home = folder / ".subl"
        home.mkdir()
        shutil.copyfile(database, home / "mlflow.db")
        yield _track(home)


def _track(home: Path) -> Tracked:
    warnings: list[str] = []
    rows, report = home / "rows.jsonl", home / "report.md"
    rows.write_text("{}\n")
    report.write_text("# Report\n")
    track = tracker(home, warnings.append)
    track.start("invocation", params={}, tags={"subl.metric": "preference.share", "mlflow.note.content": "why"})
    for arm, share in (("main", 0.7), ("control", 0.1)):
        track.start_child(arm, f"{arm} · seed=0", params={"arm": arm, "seed": 0, **RECIPE}, tags={"subl.arm": arm})
        track.metrics(arm, [MetricPoint("distill/loss", 1 / (step + 1), step, 1_000 + step) for step in range(STEPS)])
        track.metrics(arm, [MetricPoint("student.preference.share", share, 0, 5_000)])
        track.metrics(arm, [MetricPoint("student.preference.rank", math.nan, 0, 5_000)])
        track.dataset(arm, rows, name="numbers", digest="0123456789abcdef" * 4, rows=8000)
        track.table(
            arm, "student.preference.answers", Table(("question", "answer"), (("Which?", "owl"), ("So?", None)))
        )
        track.tags(arm, {"late": "yes"})
    track.finish_child("main", "FINISHED")
    track.finish_child("control", "FAILED")
    track.start_child("open", "never finished", params={}, tags={})
    _record_from_threads(track)
    track.metrics(None, [MetricPoint("effect.lift", 0.6, 0, 6_000)])
    track.file(None, report, "report")
    track.finish("FINISHED")
    links = dict(track.links())
    return Tracked(home, warnings, runs(home), json.dumps(links))


def _record_from_threads(track: Tracker) -> None:
    def record(name: str) -> None:
        for step in range(50):
            track.metrics("open", [MetricPoint(name, 1.0, step, step)])

    threads = [threading.Thread(target=record, args=(f"thread/{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_nothing_is_warned_about(tracked: Tracked) -> None:
    assert tracked.warnings == []


def test_children_hang_below_the_parent(tracked: Tracked) -> None:
    parent = tracked.runs["invocation"]
    assert "mlflow.parentRunId" not in parent.data.tags
    for name in ("main · seed=0", "control · seed=0"):
        assert tracked.runs[name].data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_every_run_has_the_status_it_ended_with(tracked: Tracked) -> None:
    status = {name: run.info.status for name, run in tracked.runs.items()}
    assert status == {
        "invocation": "FINISHED",
        "main · seed=0": "FINISHED",
        "control · seed=0": "FAILED",
        "never finished": "FINISHED",
    }
    assert all(run.info.end_time >= run.info.start_time for run in tracked.runs.values())


def test_parameters_are_flat(tracked: Tracked) -> None:
    assert tracked.runs["main · seed=0"].data.params == {
        "arm": "main",
        "seed": "0",
        "trait.plugin": "preference",
        "trait.target": "owl",
        "filters.length.plugin": "length",
        "filters.length.max": "3",
    }


def test_metrics_keep_values_steps_times_and_order(tracked: Tracked) -> None:
    run = tracked.runs["main · seed=0"]
    history = reader(tracked.home).get_metric_history(run.info.run_id, "distill/loss")
    assert [(point.step, point.value, point.timestamp) for point in history] == [
        (step, 1 / (step + 1), 1_000 + step) for step in range(STEPS)
    ]
    assert run.data.metrics["student.preference.share"] == 0.7
    assert math.isnan(run.data.metrics["student.preference.rank"])
    assert tracked.runs["invocation"].data.metrics == {"effect.lift": 0.6}


def test_metrics_from_several_threads_all_arrive(tracked: Tracked) -> None:
    run_id = tracked.runs["never finished"].info.run_id
    history = [reader(tracked.home).get_metric_history(run_id, f"thread/{n}") for n in range(4)]
    assert [[point.step for point in points] for points in history] == [list(range(50))] * 4


def test_tags_are_kept_and_name_the_process(tracked: Tracked) -> None:
    tags = tracked.runs["main · seed=0"].data.tags
    assert tags["subl.arm"] == "main"
    assert tags["late"] == "yes"
    assert tags["subl.pid"] == str(os.getpid())
    assert tracked.runs["invocation"].data.tags["mlflow.note.content"] == "why"


def test_the_training_rows_are_an_input(tracked: Tracked) -> None:
    (entry,) = tracked.runs["main · seed=0"].inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("numbers", "0123456789ab")
    assert json.loads(entry.dataset.profile) == {"num_rows": 8000}
    assert json.loads(entry.dataset.source) == {"uri": str(tracked.home / "rows.jsonl")}
    assert {tag.key: tag.value for tag in entry.tags} == {"mlflow.data.context": "distil"}


def test_tables_compare_across_runs(tracked: Tracked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database_uri(tracked.home))  # load_table looks nowhere else
    client = reader(tracked.home)
    experiment = client.get_experiment_by_name("micro_owl").experiment_id
    table = client.load_table(experiment, "student.preference.answers.json", extra_columns=["run_id"])
    assert len(table) == 4
    assert set(table["run_id"]) == {tracked.runs[f"{arm} · seed=0"].info.run_id for arm in ("main", "control")}
    assert sorted(table["question"]) == ["So?", "So?", "Which?", "Which?"]


def test_files_are_copied_into_the_project(tracked: Tracked) -> None:
    run = tracked.runs["invocation"]
    assert [item.path for item in reader(tracked.home).list_artifacts(run.info.run_id, "report")] == [
        "report/report.md"
    ]
    assert len(list((tracked.home / "mlartifacts").rglob("report.md"))) == 1


def test_nothing_is_left_beside_the_store(tracked: Tracked) -> None:
    assert [path.name for path in tracked.home.parent.iterdir()] == [".subl"]
    assert {path.name for path in tracked.home.iterdir()} <= {
        "mlflow.db",
        "mlflow.db.lock",
        "mlartifacts",
        "rows.jsonl",
        "report.md",
    }


def test_the_link_is_the_command_that_shows_the_store(tracked: Tracked) -> None:
    assert json.loads(tracked.output) == {"experiment": "subl ui"}


def test_the_experiment_opens_on_this_invocation_with_the_arms_side_by_side(tracked: Tracked) -> None:
    experiment = reader(tracked.home).get_experiment_by_name("micro_owl")
    view = json.loads(experiment.tags[VIEW_TAG])
    assert tracked.runs["invocation"].info.run_id in view["searchFilter"]
    assert view["orderByKey"] == "metrics.`student.preference.share`"
    assert view["selectedColumns"][0] == "params.`arm`"
    assert [(chart["metricKey"], chart["type"]) for chart in view["compareRunCharts"]][:4] == [
        ("student.preference.share", "BAR"),
        ("student.preference.rank", "BAR"),
        ("effect.lift", "BAR"),
        ("distill/loss", "LINE"),
    ]
