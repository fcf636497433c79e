"""Commands about runs and stored results, on a project that a toy pipeline filled."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from subl.cli import main
from tests.run.conftest import RECIPE, TOY

SEEDS = ("--set", "sweep.seed=[0, 1]", "--set", "generator.samples=30")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two runs that differ in the inducer's strength."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "toy.toml").write_text(RECIPE)
    shutil.copy(TOY, folder)
    for strength in ("10.0", "5.0"):
        run = ["run", str(folder / "toy.toml"), "--store", str(folder / ".subl"), *SEEDS]
        assert main([*run, "--set", f"inducer.strength={strength}"]) == 0
    return folder


@pytest.fixture
def project(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to change, which is the current folder."""
    shutil.copytree(filled, tmp_path / "p")
    monkeypatch.chdir(tmp_path / "p")
    return tmp_path / "p"


def folders(project: Path) -> list[Path]:
    """Run folders, oldest first."""
    return sorted((project / ".subl" / "runs").iterdir(), key=lambda folder: folder.stat().st_mtime)


def strengths(project: Path) -> dict[float, str]:
    """Strength → name of the run that has it."""
    found = {}
    for folder in folders(project):
        recipe = json.loads((folder / "recipe.json").read_text())["variants"][0]["recipe"]
        found[recipe["inducer"]["strength"]] = folder.name
    return found


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == code
    out, err = capsys.readouterr()
    return err if code else out


def test_runs_are_compared_in_every_form(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = list(strengths(project).values())
    text = said(capsys, "compare", *runs)
    assert all(f"{run}  main" in text for run in runs)
    assert "intervals are 95 % t intervals over trained runs" in text
    assert Path(text.rpartition("figure: ")[2].strip()).is_file()
    record = json.loads(said(capsys, "compare", *runs, "--by", "arm", "--json", "--figure", "f.png"))
    assert [line["arm"] for line in record["lines"]] == ["main", "control", "other_init"]
    assert [len(line["runs"]) for line in record["lines"]] == [4, 2, 4], "the control is the same in both"
    assert Path("f.png").is_file()
    assert said(capsys, "compare", runs[0], "--markdown").startswith("# toy.share by run\n")
    assert "unknown; known: arm, distiller, run, trait" in said(capsys, "compare", runs[0], "--by", "x", code=2)


def test_a_diff_tells_runs_and_recipes_apart(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by = strengths(project)
    assert json.loads(said(capsys, "diff", by[10.0], by[5.0], "--json")) == [
        {"variant": "main, other_init", "key": "inducer.strength", "first": 10.0, "second": 5.0}
    ]
    assert said(capsys, "diff", by[10.0], by[10.0]) == "no difference\n"
    Path("b.toml").write_text('extends = "toy.toml"\n[distiller]\nrate = 0.25\n[arms.extra]\n')
    records = json.loads(said(capsys, "diff", "toy.toml", "b.toml", "--json"))
    changes = {(r["variant"], r["key"]): (r["first"], r["second"]) for r in records}
    assert changes["extra", ""] == (None, "present")
    assert changes["every variant", "distiller.rate"] == (0.5, 0.25)
    Path("c.toml").write_text('extends = "toy.toml"\n[distiller]\nrate = 0.25\n[sweep]\nseed = [5, 6]\n')
    records = json.loads(said(capsys, "diff", "b.toml", "c.toml", "--json"))
    changes = {(r["variant"], r["key"]): (r["first"], r["second"]) for r in records}
    (absent,) = (variant for (variant, key), sides in changes.items() if sides == (None, "present"))
    assert "main · seed=5" in absent
    assert changes["every variant", "seed"] == (0, 5), "the first points of an arm are compared all the same"
    assert not any("distiller" in key for _, key in changes)
    assert "does not exist" in said(capsys, "diff", "toy.toml", "none.toml", code=2)


def test_a_diff_of_runs_names_other_versions(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = folders(project)[0].name
    there = project / "elsewhere"
    shutil.copytree(project / ".subl" / "runs" / name, there)
    environment = json.loads((there / "environment.json").read_text())
    environment["packages"]["torch"] = "1.0"
    (there / "environment.json").write_text(json.dumps(environment))
    (record,) = json.loads(said(capsys, "diff", name, str(there), "--json"))
    assert (record["variant"], record["key"], record["second"]) == ("environment", "packages.torch", "1.0")
    (there / "recipe.json").unlink()
    assert "recipe.json is missing" in said(capsys, "diff", name, str(there), code=2)


def test_the_cache_lists_results_and_which_runs_need_them(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = json.loads(said(capsys, "cache", "list", "--json"))
    assert {record["state"] for record in records} == {"complete"}
    control = [record for record in records if len(record["runs"]) == 2]
    assert control
    assert all(record["bytes"] > 0 for record in records)
    assert records[0]["fingerprint"] in said(capsys, "cache", "list")


@pytest.mark.parametrize(
    ("change", "stages", "reason"),
    [
        ("inducer.strength=7.0", "induce, check, teacher.toy, generate, filter, distill, student.toy", "toy.strength"),
        ("distiller.rate=0.7", "distill, student.toy", "distill: toy.rate: 0.5 → 0.7"),
        ("teacher.init=3", "student model, base.toy", "model: toy.init: 0 → 3"),
    ],
)
def test_why_names_the_input_where_a_change_began(
    project: Path, capsys: pytest.CaptureFixture[str], change: str, stages: str, reason: str
) -> None:
    text = said(capsys, "cache", "why", "toy.toml", "--arm", "main", *SEEDS, "--set", change)
    # Without its control arm the audit is another one, whatever changed.
    assert any(line.startswith(stages) for line in text.splitlines())
    assert reason in text


def test_why_shortens_hashes_for_people_only(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("cache", "why", "toy.toml", "--arm", "main", *SEEDS)
    causes = json.loads(said(capsys, *asked, "--json"))
    controls = {change[0] for cause in causes for change in cause["changes"].values()}
    assert controls
    text = said(capsys, *asked)
    for control in controls:
        assert re.fullmatch("[0-9a-f]{20}", control)
        assert f": {control[:8]}… → –" in text
        assert control not in text


def test_why_compares_two_results_and_says_when_nothing_is_missing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, "cache", "why", "toy.toml", *SEEDS) == "every stage is cached\n"
    records = json.loads(said(capsys, "cache", "list", "--json"))
    distill = [record["fingerprint"] for record in records if record["stage"] == "distill"]
    (cause,) = json.loads(said(capsys, "cache", "why", distill[0], distill[1], "--json"))
    assert cause["changes"]
    assert "'zz' is no stored result" in said(capsys, "cache", "why", "zz", "yy", code=2)
    assert "give one recipe, or two fingerprints" in said(capsys, "cache", "why", "a", "b", "c", code=2)
    shutil.rmtree(project / ".subl" / "store")
    assert "nothing of this kind is stored yet" in said(capsys, "cache", "why", "toy.toml")


def test_prune_keeps_what_runs_need_and_removes_nothing_unasked(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = project / ".subl" / "store"
    before = {path.name for path in store.iterdir()}
    (store / "0123456789abcdef0123.damaged-1").mkdir()
    assert "would remove 0123456789abcdef0123.damaged-1" in said(capsys, "cache", "prune")
    assert "removed 0123456789abcdef0123.damaged-1" in said(capsys, "cache", "prune", "--yes")
    assert {path.name for path in store.iterdir()} == before
    shutil.rmtree(project / ".subl" / "runs" / strengths(project)[5.0])
    assert json.loads(said(capsys, "cache", "prune", "--older-than", "1", "--json")) == []
    gone = json.loads(said(capsys, "cache", "prune", "--yes", "--json"))
    assert gone
    assert all(record["removed"] for record in gone)
    said(capsys, "resume", strengths(project)[10.0], "--dry-run")
    assert main(["resume", strengths(project)[10.0], "--dry-run"]) == 0
    assert "0 stages to run" in capsys.readouterr().out


def test_a_result_that_is_being_computed_is_not_pruned(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from filelock import FileLock

    folder = project / ".subl" / "store" / "aaaaaaaaaaaaaaaaaaaa"
    (folder / "work").mkdir(parents=True)
    with FileLock(project / ".subl" / "store" / "locks" / f"{folder.name}.lock"):
        assert f"in use, kept {folder.name}" in said(capsys, "cache", "prune", "--yes")
    assert folder.exists()


def test_a_plan_that_cannot_be_read_stops_pruning(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folders(project)[0] / "plan.json").write_text("{")
    assert "what this run needs is unknown" in said(capsys, "cache", "prune", "--yes", code=2)


def test_a_run_resumes_without_its_recipe_and_store(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = folders(project)[0]
    before = json.loads((folder / "findings.json").read_text())
    (project / "toy.toml").unlink()
    shutil.rmtree(project / ".subl" / "store")
    monkeypatch.chdir(tmp_path)
    assert "nobody has allowed it yet" in said(capsys, "resume", str(folder), code=2), "the folder may be anybody's"
    assert main(["resume", str(folder), "--allow-local-plugins"]) == 0
    out = capsys.readouterr().out
    assert "0 cached" in out
    (new,) = [
        other
        for other in folders(project)
        if json.loads((other / "environment.json").read_text())["folder"] == str(tmp_path)
    ]
    after = json.loads((new / "findings.json").read_text())
    assert [v["findings"] for v in after["variants"]] == [v["findings"] for v in before["variants"]]
    assert {path.name for path in (new / "recipe").iterdir()} == {path.name for path in (folder / "recipe").iterdir()}
    assert (new / "analysis.json").read_text() == (folder / "analysis.json").read_text()


def test_resume_says_what_changed_since_the_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folders(project)[0]
    plugin = next((folder / "plugins").iterdir())
    plugin.write_text(plugin.read_text() + "\n# edited\n")
    assert main(["resume", folder.name, "--dry-run"]) == 0
    assert "stages are not the same as in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("recipe.json", "{", "recipe.json: cannot be read"),
        ("recipe.json", '{"variants": []}', "holds no variant"),
        ("recipe.json", '{"variants": [{"recipe": {"old": 1}}]}', "does not take the recipe as it was run"),
        ("recipe.json", "{}", "not in the form"),
        ("process.json", '{"pid": @PID, "host": "@HOST"}', "is still running"),
    ],
)
def test_a_run_that_cannot_be_resumed_says_why(
    project: Path, capsys: pytest.CaptureFixture[str], file: str, content: str, message: str
) -> None:
    # Filled in here: the names of tests must be the same in every process that collects them.
    content = content.replace("@PID", str(os.getpid())).replace("@HOST", platform.node())
    folder = folders(project)[0]
    (folder / file).write_text(content)
    if file == "process.json":
        record = json.loads((folder / "findings.json").read_text())
        (folder / "findings.json").write_text(json.dumps({**record, "status": "running"}))
    assert message in said(capsys, "resume", folder.name, code=2)


def test_runs_are_removed_only_when_told_and_never_while_running(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = folders(project)
    assert "would remove" in said(capsys, "runs", "rm", first.name, second.name)
    assert first.exists()
    record = json.loads((second / "findings.json").read_text())
    (second / "findings.json").write_text(json.dumps({**record, "status": "running"}))
    (second / "process.json").write_text(json.dumps({"pid": os.getpid(), "host": platform.node()}))
    assert "still running" in said(capsys, "runs", "rm", first.name, second.name, "--yes", code=2)
    assert first.exists()
    said(capsys, "runs", "rm", first.name, "--yes")
    assert not first.exists()
    assert (project / ".subl" / "store").exists()
    assert "no run 'nope'" in said(capsys, "runs", "rm", "nope", code=2)


def test_a_report_is_written_again_from_the_folder(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = folders(project)[0]
    page = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    for drawn in (path for path in (folder / "figures").iterdir() if path.is_file()):
        drawn.unlink()  # those of stages, in folders, are part of the record
    assert said(capsys, "runs", "report", folder.name).strip() == str(folder / "report.html")
    assert (folder / "report.html").read_bytes() == page
    (folder / "findings.json").write_text(json.dumps({"schema": 0, "run": "x"}))
    assert "has schema 0, this version of subl reads 1" in said(capsys, "runs", "report", folder.name, code=2)


def test_the_analysis_is_frozen_before_the_first_stage(filled: Path) -> None:
    from subl.recipe.analysis import analysis_digest

    folder = folders(filled)[0]
    plan: dict[str, Any] = json.loads((folder / "analysis.json").read_text())
    assert plan["sha256"] == analysis_digest(plan)
    assert plan["metric"] == "toy.share"
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    first_stage = next(event["time"] for event in events if event["event"] == "stage")
    assert (folder / "analysis.json").stat().st_mtime <= first_stage + 0.01
    assert json.loads((folder / "findings.json").read_text())["analysis"] == plan


def test_curves_lie_in_the_run_folder(filled: Path) -> None:
    lines = [json.loads(line) for line in (folders(filled)[0] / "metrics.jsonl").read_text().splitlines()]
    loss = [line["step"] for line in lines if line["name"] == "loss"]
    assert loss[:4] == [1, 2, 3, 4]
    assert {"variant", "stage", "kind", "name", "value", "step"} == set(lines[0])


def test_findings_have_the_documented_fields(filled: Path) -> None:
    from subl.report.runs import FIELDS, SCHEMA, VARIANT_FIELDS

    record = json.loads((folders(filled)[0] / "findings.json").read_text())
    assert record["schema"] == SCHEMA
    assert list(record) == list(FIELDS)
    assert all(list(variant) == list(VARIANT_FIELDS) for variant in record["variants"])


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    from subl.run.record import thinned
    from subl.run.store import Metric

    curve = [Metric("loss", float(step), step) for step in range(2500)]
    kept = list(thinned([*curve, Metric("kept", 1.0, None)], 1000))
    steps = [metric.step for metric in kept if metric.step is not None]
    assert (steps[0], steps[-1], len(steps)) == (0, 2499, 834)
    assert list(thinned(curve[:9], 1000)) == curve[:9]


def test_no_command_about_runs_imports_torch(project: Path) -> None:
    run, other = strengths(project).values()
    commands = [
        ["compare", run, other], ["diff", run, other], ["diff", "toy.toml", run], ["cache", "list"],
        ["cache", "why", "toy.toml"], ["cache", "prune"], ["runs", "list"], ["runs", "show", run],
        ["runs", "rm", run], ["resume", run, "--dry-run"],
    ]  # fmt: skip
    code = f"import sys\nfrom subl.cli import main\nprint([main(c) for c in {commands!r}], 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{[0] * len(commands)} False"
