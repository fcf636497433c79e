"""A plan that is only looked at goes on where a data set cannot be identified, and says so once."""

from pathlib import Path

import pytest

from subl.errors import DataError
from subl.recipe.loading import load_experiment
from subl.run.plan import build_plan

RECIPE = """
extends = "micro_owl"

[generator]
plugin = "dataset"
source = "owner/name"
"""


def test_an_unreachable_data_set_is_told_once_and_stops_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def unreachable(name: str, _: str | None) -> str:
        asked.append(name)
        raise DataError(f"the hub cannot be asked for data set {name}")

    monkeypatch.setattr("subl.sources._commit", unreachable)
    path = tmp_path / "r.toml"
    path.write_text(RECIPE, encoding="utf-8")
    experiment = load_experiment(path)
    plan = build_plan(experiment, lenient=True)
    assert plan.unresolved == ("the hub cannot be asked for data set owner/name",)
    assert asked == ["owner/name"]
    with pytest.raises(DataError, match="owner/name"):
        build_plan(experiment)
