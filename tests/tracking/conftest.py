from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: making one takes seconds."""
    from subl.tracking.stores import create_database

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    create_database(path)
    return path


@pytest.fixture
def home(tmp_path: Path, database: Path) -> Path:
    """A project's .subl folder, with an unusual name, that has its database already."""
    folder = tmp_path / "a project ü" / ".subl"
    folder.mkdir(parents=True)
    shutil.copyfile(database, folder / "mlflow.db")
    return folder
