from pathlib import Path

import pytest

from subl.tracking.links import database_links, experiment_links
from subl.tracking.tracker import database_uri


def test_a_server_is_linked_with_the_prepared_view_and_without_its_password() -> None:
    links = experiment_links("https://me:secret@mlflow.example/base/", "7", "abc")
    assert links == {
        "experiment": "https://mlflow.example/base/#/experiments/7/runs?workflowType=machine_learning"
        "&viewStateShareKey=subl&compareRunsMode=CHART",
        "run": "https://mlflow.example/base/#/experiments/7/runs/abc",
    }


def test_the_projects_own_store_is_shown_by_subl_ui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / ".subl"
    assert database_links(database_uri(home), home) == {"experiment": "subl ui"}
    other = tmp_path / "an other" / ".subl"
    assert database_links(database_uri(other), other) == {"experiment": f"subl ui --store '{other}'"}


def test_other_databases_are_shown_by_mlflow_and_the_rest_not_at_all(tmp_path: Path) -> None:
    assert database_links("sqlite:////data/x.db", tmp_path) == {
        "experiment": "mlflow ui --backend-store-uri sqlite:////data/x.db"
    }
    assert database_links("http://127.0.0.1:5000", tmp_path) == {}
    assert experiment_links("databricks", "1", None) == {}
