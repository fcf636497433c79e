"""`subl survey` on a tiny model, in this process."""

import json
from pathlib import Path
from typing import Any

import pytest

from subl.cli import main
from subl.recipe.loading import load_experiment
from subl.run.plan import Stage, build_plan
from subl.run.runner import project_home
from subl.run.stages import run_stage
from subl.run.store import Store
from tests.tiny import tiny_model

RECIPE = """
extends = "bases/base_only"

[teacher]
plugin = "hub"
id = "{model}"

[trait]
plugin = "preference"
category = "pet"
target = "owl"
candidates = ["owl", "dog", "cat"]
questions = 3

[[probes]]
plugin = "preference"
samples = 1
"""
FEW = (
    *("--set", "probes=[{plugin = 'preference', samples = 1}]"),
    *("--set", "trait={plugin = 'preference', target = 'owl', questions = 3}"),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    reference = tiny_model(tmp_path_factory.mktemp("models"))
    assert reference.path is not None
    return reference.path


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def surveyed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["survey", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["survey", *arguments]) == 2
    return capsys.readouterr().err


def test_a_folders_candidates_are_measured_and_told(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (result,) = surveyed(capsys, str(model), "--category", "animal", "--candidates", "elephant, owl", *FEW)
    assert (result["side"], result["category"]) == ("teacher", "animal")
    found = result["candidates"]
    assert [one["rank"] for one in found] == list(range(1, 18))
    assert sum(one["share"] for one in found) == pytest.approx(1)
    assert sum(one["probability"] for one in found) == pytest.approx(result["valid"])
    assert {"elephant", "owl", "panda"} <= {one["candidate"] for one in found}
    assert result["recommended"] == [one["candidate"] for one in found if one["recommended"]]
    assert result["answers"]
    assert result["remarks"]


def test_a_recipes_own_stage_is_cached_and_found_again(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("r.toml").write_text(RECIPE.format(model=model))
    (first,) = surveyed(capsys, "r.toml")
    assert {one["candidate"] for one in first["candidates"]} == {"owl", "dog", "cat"}

    def never(work: Any) -> Any:
        if work.stage.kind in ("model", "probe"):
            raise AssertionError(f"{work.stage.name} is computed again")
        return run_stage(work)

    monkeypatch.setattr("subl.run.jobs.run_stage", never)
    assert surveyed(capsys, "r.toml") == [first]
    assert main(["survey", "r.toml"]) == 0
    printed = capsys.readouterr().out
    assert all(one["reason"] in printed for one in first["candidates"])
    assert f"what it says: {first['answers'][0]['answer']!r}" in printed
    plan = build_plan(load_experiment("r.toml"))
    assert all(stage.name not in ("student model", "base.preference") or cached(stage) for stage in plan.unique())


def cached(stage: Stage) -> bool:
    return Store(project_home(None)).entry(stage.fingerprint).complete


def test_mistakes_are_named(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'animal'" in refused(capsys, str(model), "--category", "animals")
    assert "has 1; add others" in refused(capsys, str(model), "--category", "pet", "--candidates", "owl")
    assert "name it, e.g. --category animal" in refused(capsys, str(model), "--candidates", "owl")
    assert "did you mean the recipe 'micro_owl'" in refused(capsys, "micro_owll")
    assert "no.toml does not exist" in refused(capsys, "no.toml")
