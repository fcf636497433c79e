"""A tracker's calls, carried out with the MLflow client. The only module that imports mlflow."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

from subl.tracking.links import experiment_links
from subl.tracking.stores import create_database, reconcile, sqlite_path
from subl.tracking.tracker import ARTIFACTS, METRIC_TAG
from subl.tracking.view import ARM, VIEW_TAG, view_state

BATCH_METRICS = 1000
BATCH_PARAMS = 100
DIGEST_LENGTH = 12
VIEW_PARAMS = 8


@dataclass(slots=True)
class _Waiting:
    """What is still to be written of a run: every call of the client is a transaction, or a request."""

    metrics: list[Metric] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    tables: dict[str, Mapping[str, Any]] = field(default_factory=dict)


class Recorder:
    """One invocation's runs in one experiment, by explicit run ids.

    Args:
        uri: Tracking server or database.
        experiment: Name of the experiment; made if it is not there.
        home: The project's `.subl` folder; holds the artifacts of databases.
        host: Name of the machine that the experiment runs on.
        pid: Its process there; both mark the runs, so that those of a killed process can be told.
    """

    def __init__(self, *, uri: str, experiment: str, home: str, host: str, pid: int) -> None:
        self._uri = uri
        self._home = Path(home)
        self._experiment_name = experiment
        self._owner = {"subl.host": host, "subl.pid": str(pid)}
        database = sqlite_path(uri)
        if database is not None:
            create_database(database)
        self._client = MlflowClient(tracking_uri=uri)
        self._experiment = self._open_experiment(local=database is not None)
        self._runs: dict[str | None, str] = {}
        self._open: set[str | None] = set()
        self._waiting: dict[str, _Waiting] = {}
        self._tables: dict[str, list[str]] = {}
        self._children: list[Mapping[str, str]] = []
        self._curves: dict[str, bool] = {}
        self._primary: str | None = None
        reconcile(self._client, host)

    def start(self, *, name: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Open the parent run."""
        self._primary = f"student.{tags[METRIC_TAG]}" if METRIC_TAG in tags else None
        self._start(None, name, params, tags)

    def start_child(self, *, key: str, name: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Open a child run of the parent."""
        self._start(key, name, params, {**tags, "mlflow.parentRunId": self._runs[None]})
        self._children.append(params)

    def metrics(self, *, key: str | None, points: Sequence[tuple[str, float, int, int]]) -> None:
        """Keep metrics until `flush`, or write them when a batch is full."""
        waiting = self._wait(key).metrics
        waiting.extend(Metric(name, value, time_ms, step) for name, value, step, time_ms in points)
        for name, _, step, _ in points:
            self._curves[name] = self._curves.get(name, False) or step > 0
        if len(waiting) >= BATCH_METRICS:
            self.flush()

    def flush(self) -> None:
        """Write the metrics, tags and tables that wait."""
        waiting, self._waiting = self._waiting, {}
        for run_id, calls in waiting.items():
            if calls.tables:
                calls.tags[MLFLOW_LOGGED_ARTIFACTS] = self._write_tables(run_id, calls.tables)
            tags = [RunTag(name, value) for name, value in calls.tags.items()]
            for batch in _batches(tags, BATCH_PARAMS):
                self._client.log_batch(run_id, tags=batch)
            for metrics in _batches(calls.metrics, BATCH_METRICS):
                self._client.log_batch(run_id, metrics=metrics)

    def dataset(self, *, key: str, path: str, name: str, digest: str, rows: int) -> None:
        """Record the training rows as an MLflow input; the rows themselves stay where they are."""
        data = Dataset(
            name=name,
            digest=digest[:DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": path}),
            profile=json.dumps({"num_rows": rows}),
        )
        tags = [InputTag("mlflow.data.context", "distil")]
        self._client.log_inputs(self._runs[key], datasets=[DatasetInput(data, tags)])

    def table(self, *, key: str, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Keep a table until `flush`; it will compare side by side across runs."""
        self._wait(key).tables[f"{name}.json"] = {"columns": columns, "data": rows}

    def file(self, *, key: str | None, path: str, folder: str) -> None:
        """Copy a file into the run's artifacts."""
        self._client.log_artifact(self._runs[key], path, folder or None)

    def tags(self, *, key: str | None, tags: Mapping[str, str]) -> None:
        """Keep tags until `flush`."""
        self._wait(key).tags.update(tags)

    def finish_child(self, *, key: str | None, status: str) -> None:
        """Close a run."""
        self.flush()
        self._client.set_terminated(self._runs[key], status)
        self._open.discard(key)

    def finish(self, status: str) -> None:
        """Close every run that is still open, the parent last."""
        self.flush()
        for key in sorted(self._open, key=lambda key: key is None):
            self.finish_child(key=key, status=status)
        if self._curves and None in self._runs:
            view = view_state(self._runs[None], self._varying(), self._curves, self._primary)
            self._client.set_experiment_tag(self._experiment, VIEW_TAG, view)

    def links(self) -> dict[str, str]:
        """Return where a server shows the experiment."""
        return experiment_links(self._uri, self._experiment, self._runs.get(None))

    def _wait(self, key: str | None) -> _Waiting:
        return self._waiting.setdefault(self._runs[key], _Waiting())

    def _write_tables(self, run_id: str, tables: Mapping[str, Mapping[str, Any]]) -> str:
        """Write tables as `MlflowClient.log_table` does, all at once; return the tag that lists them.

        That tag is what makes MLflow take a file for a table.
        """
        with tempfile.TemporaryDirectory() as folder:
            for name, table in tables.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(pd.DataFrame(**table).to_json(orient="split", index=False), encoding="utf-8")
            self._client.log_artifacts(run_id, folder)
        listed = self._tables.setdefault(run_id, [])
        listed.extend(name for name in tables if name not in listed)
        return json.dumps([{"path": name, "type": "table"} for name in listed])

    def _varying(self) -> list[str]:
        """Return the parameters that tell the children apart, the arm first."""
        names = dict.fromkeys(name for params in self._children for name in params)
        varying = [name for name in names if len({params.get(name) for params in self._children}) > 1]
        return sorted(varying, key=lambda name: name != ARM)[:VIEW_PARAMS]

    def _start(self, key: str | None, name: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        source = {"mlflow.source.name": "subl", "mlflow.source.type": "LOCAL"}
        run = self._client.create_run(
            self._experiment, start_time=_now(), run_name=name, tags={**source, **tags, **self._owner}
        )
        self._runs[key] = run.info.run_id
        self._open.add(key)
        for batch in _batches(list(params.items()), BATCH_PARAMS):
            self._client.log_batch(run.info.run_id, params=[Param(*item) for item in batch])

    def _open_experiment(self, *, local: bool) -> str:
        name = self._experiment_name
        found = self._client.get_experiment_by_name(name)
        if found is None:
            # MLflow's default would be a folder relative to wherever the command was started.
            folder = self._home / ARTIFACTS / re.sub(r"[^\w.\-]+", "_", name).strip(".")
            try:
                made: str = self._client.create_experiment(name, artifact_location=folder.as_uri() if local else None)
                return made
            except MlflowException:
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)


def _now() -> int:
    return int(time.time() * 1000)


def _batches(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
