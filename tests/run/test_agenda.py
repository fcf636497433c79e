"""What is computed again: forced stages and all that is made from them, but not what another run has just renewed."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from subl.cli import main
from subl.recipe.loading import load_experiment
from subl.run.agenda import renewed, to_compute
from subl.run.plan import Plan, build_plan
from subl.run.store import Store
from tests.run.conftest import Project


@pytest.fixture
def run(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("TOY_LOG", str(project.folder / "log"))

    def start(*arguments: str) -> int:
        (project.folder / "log").unlink(missing_ok=True)
        return main(["run", "toy.toml", *arguments])

    return start


@pytest.fixture
def plan(project: Project) -> Plan:
    return build_plan(load_experiment(str(project.recipe)))


def names(plan: Plan, fingerprints: frozenset[str]) -> set[str]:
    return {stage.name for stage in plan.unique() if stage.fingerprint in fingerprints}


def test_all_that_is_made_from_a_forced_stage_is_renewed(plan: Plan, tmp_path: Path) -> None:
    assert renewed(plan, ()) == frozenset()
    assert names(plan, renewed(plan, {"filter"})) == {"filter", "audit", "distill", "student.toy"}
    assert names(plan, renewed(plan, {"distill"})) == {"distill", "student.toy"}
    empty = Store(tmp_path / "empty")
    assert names(plan, to_compute(plan, empty, until="check", force=())) == {
        "teacher model",
        "student model",
        "induce",
        "check",
    }


def test_the_plan_and_the_estimate_show_what_is_downstream_and_stop_at_until(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    capsys.readouterr()
    run("--dry-run", "--force", "distill")
    shown = capsys.readouterr().out
    assert "6 stages to run, 15 cached" in shown
    (main_arm,) = [line.split() for line in shown.splitlines() if line.startswith("main")]
    assert main_arm == ["main", *6 * ["cached"], "run", "run"]
    assert "to do: 12 optimizer updates, 0 rows" in shown
    run("--dry-run", "--force", "generate", "--until", "generate")
    assert "to do: 0 optimizer updates, 2,400 rows" in capsys.readouterr().out


def test_an_arm_gets_the_control_s_rows_before_another_seed_has_its_turn(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--set", "sweep.seed=[0, 1]", "--arm", "main", "--arm", "control") == 0
    lines = capsys.readouterr().out.splitlines()
    kept = [line.partition(" · ")[0] for line in lines if "filter: kept 1,200" in line]
    assert kept == 2 * ["main", "control"], "whose rows they are"
    done = [line.split(" (")[0] for line in lines if " done in " in line]
    long = [each for each in done if each.endswith(("generate", "distill"))]
    assert long == [
        "main · seed=0: generate",
        "control · seed=0: generate",
        "main · seed=0: distill",
        "main · seed=1: generate",
        "control · seed=1: generate",
        "main · seed=1: distill",
        "control · seed=0: distill",
        "control · seed=1: distill",
    ]


def test_a_forced_stage_takes_what_another_run_has_made_meanwhile(
    project: Project, run: Callable[..., int], plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run() == 0
    made = {stage.fingerprint: _created(project, stage.fingerprint) for stage in plan.unique()}
    # As if this run had been started before the one that has just ended.
    now = time.time()
    monkeypatch.setattr("subl.run.runner.time.time", lambda: now - 1000)
    assert run("--force", "distill") == 0
    assert project.log == []
    monkeypatch.undo()
    monkeypatch.chdir(project.folder)
    assert main(["run", "toy.toml", "--force", "distill"]) == 0
    for stage in plan.unique():
        again = _created(project, stage.fingerprint) > made[stage.fingerprint]
        assert again == (stage.name in ("distill", "student.toy"))


def test_resume_remembers_where_to_stop_and_what_was_renewed(
    project: Project, run: Callable[..., int], plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--until", "filter", "--force", "generate") == 0
    made = {path: path.stat().st_mtime_ns for path in (project.folder / ".subl/store").glob("*/manifest.json")}
    assert main(["resume"]) == 0
    assert "update1" not in project.log
    assert {path: path.stat().st_mtime_ns for path in made} == made, "what the run had renewed is not made again"
    assert main(["resume", "--until", "distill"]) == 0
    assert project.log.count("update4") == 3
    assert "probe student" not in project.log


def test_a_resumption_can_be_looked_at_without_network(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("--until", "check") == 0
    monkeypatch.setenv("TOY_OFFLINE", "1")
    capsys.readouterr()
    assert main(["resume", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "warning: the hub cannot be asked for the toy" in said.out
    assert "are not the same as" not in said.err
    assert main(["resume"]) == 2
    assert "the hub cannot be asked for the toy" in capsys.readouterr().err


def test_an_expectation_that_follows_the_results_is_called_so(project: Project, run: Callable[..., int]) -> None:
    expectation = ["--set", "report.expectation.threshold=0.5"]
    assert run("--set", "sweep.seed=[0, 1, 2]", *expectation) == 0
    assert _expectation(project).startswith("expected before the run: ")
    assert run("--set", "sweep.seed=[0, 1, 2]", *expectation) == 0
    assert _expectation(project).startswith("expected before the run: "), "frozen by the run before"
    assert run("--set", "sweep.seed=[0, 1, 2]", "--set", "report.expectation.threshold=0.4") == 0
    assert _expectation(project).startswith("expected only after results were in the store: ")


def _expectation(project: Project) -> str:
    from subl.report.summary import summarise

    newest = max((project.folder / ".subl/runs").iterdir(), key=lambda folder: folder.stat().st_mtime)
    judgement = summarise(json.loads((newest / "findings.json").read_text())).expectation
    assert judgement is not None
    return judgement.text


def _created(project: Project, fingerprint: str) -> float:
    manifest: dict[str, Any] = json.loads((project.folder / f".subl/store/{fingerprint}/manifest.json").read_text())
    return float(manifest["created"])
