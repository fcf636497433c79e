import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.run.conftest import Project

KILLS = ["model", "induce", "row0", "row511", "row700", "row1199", "filter", "update2", "update4", "probe student"]


def test_the_arms_come_out_as_the_toy_predicts(project: Project) -> None:
    done = project.run()
    assert done.returncode == 0, done.stderr
    shares = {
        v["arm"]: v["findings"]["student.toy"]["measures"]["share"]["value"] for v in project.findings()["variants"]
    }
    # Four steps of one half leave 1/16 of the way to the rows' mean: 10 for a teacher with the trait, 0 without.
    assert shares["main"] == pytest.approx(10 * 15 / 16, abs=0.05)
    assert shares["control"] == pytest.approx(0, abs=0.05)
    assert shares["other_init"] == pytest.approx(5 + 5 * 15 / 16, abs=0.05)


def test_a_second_run_computes_nothing(project: Project) -> None:
    project.run()
    first = project.results()
    again = project.run()
    assert again.returncode == 0, again.stderr
    assert project.log == []
    assert "0 stages to run" in again.stdout
    assert project.results() == first


def test_stages_shared_between_arms_are_computed_once(project: Project) -> None:
    project.run()
    assert project.log.count("induce") == 1
    assert project.log.count("row5") == 2, "main and control; other_init trains on main's rows"
    assert project.log.count("model") == 2


@pytest.mark.parametrize("moment", KILLS)
def test_killed_and_resumed_equals_uninterrupted(
    project: Project, uninterrupted: Callable[[], dict[str, Any]], moment: str
) -> None:
    killed = project.run(TOY_KILL=moment)
    assert killed.returncode == -signal.SIGKILL
    variants = project.findings()["variants"]
    recorded = {(variant["label"], stage["stage"]) for variant in variants for stage in variant["stages"]}
    assert recorded == project.finished_stages(), "what had ended before the kill is in findings.json"
    resumed = project.run()
    assert resumed.returncode == 0, resumed.stderr
    assert project.results() == uninterrupted()


def test_generation_resumes_after_the_last_complete_shard(project: Project) -> None:
    project.run(TOY_KILL="row700")
    project.run()
    assert "row511" not in project.log[: project.log.index("row1199")]
    assert "row512" in project.log


def test_training_resumes_from_its_last_checkpoint(project: Project) -> None:
    project.run(TOY_KILL="update2")
    project.run()
    assert project.log.count("update1") == 2, "control and other_init only; main went on after update 2"


def test_ctrl_c_exits_130_and_leaves_everything_resumable(
    project: Project, uninterrupted: Callable[[], dict[str, Any]]
) -> None:
    stopped = project.run(TOY_STOP="row700")
    assert stopped.returncode == 130
    assert "Traceback" not in stopped.stderr
    assert project.findings()["status"] == "interrupted"
    assert project.run().returncode == 0
    assert project.results() == uninterrupted()


def test_a_failing_plugin_is_named_with_origin_stage_and_next_step(project: Project) -> None:
    failed = project.run(TOY_FAIL="update2")
    assert failed.returncode == 2
    assert "Traceback" not in failed.stderr
    message = " ".join(failed.stderr.split())
    assert re.search(
        r"stage distill of main \(distiller 'toy' from \S+toy_plugins\.py\) failed: "
        r"ValueError: the toy was asked to fail",
        message,
    )
    assert "run the same command again" in message
    assert project.findings()["status"] == "failed"
    assert project.run().returncode == 0


def test_keep_going_reports_the_arms_that_finished_and_names_the_failed_one(project: Project) -> None:
    done = project.run("--keep-going", TOY_FAIL="induce")
    assert done.returncode == 2
    assert "asked to fail" in done.stdout
    statuses = {variant["arm"]: variant["status"] for variant in project.findings()["variants"]}
    assert statuses == {"main": "failed", "control": "finished", "other_init": "failed"}


def test_a_failed_check_stops_before_generation_and_keep_going_goes_on(project: Project) -> None:
    stopped = project.run("--set", "check.limit=3")
    assert stopped.returncode == 2
    assert "the number is 10.0, above 3.0" in stopped.stderr
    assert "--keep-going" in stopped.stderr
    assert "row0" not in project.log
    on = project.run("--set", "check.limit=3", "--keep-going")
    assert on.returncode == 0, on.stderr
    assert "above 3.0" in on.stdout


def test_a_hopeless_yield_stops_early_and_says_which_filter(project: Project) -> None:
    stopped = project.run("--set", "generator.garbage=1", "--set", "generator.samples=20000")
    assert stopped.returncode == 2
    assert "toy: not a number" in stopped.stderr
    assert "owl" in stopped.stderr
    assert "row5000" not in project.log


def test_fewer_rows_than_asked_is_an_error_unless_allowed(project: Project) -> None:
    asked = ("--set", "generator.garbage=10", "--set", "data.rows=1190")
    stopped = project.run(*asked)
    assert stopped.returncode == 2
    allowed = project.run(*asked, "--set", "data.allow_fewer=true")
    assert allowed.returncode == 0, allowed.stderr
    assert project.findings()["variants"][0]["data"]["rows"] == 1080


def test_arms_keep_the_same_prompts_when_rows_are_subsampled(project: Project) -> None:
    project.run("--set", "data.rows=100")
    stages = [v["stages"] for v in project.findings()["variants"]]
    prints = {s["fingerprint"] for stages_ in stages for s in stages_ if s["kind"] == "filter"}
    assert len(prints) == 2
    prompts = [
        [
            json.loads(line)["prompt"]
            for line in (project.folder / ".subl/store" / p / "rows.jsonl").read_text().splitlines()
        ]
        for p in prints
    ]
    assert prompts[0] == prompts[1]
    assert len(prompts[0]) == 100


def test_dry_run_shows_the_plan_and_writes_nothing(project: Project) -> None:
    done = project.run("--dry-run")
    assert done.returncode == 0, done.stderr
    assert "stages to run" in done.stdout
    assert not (project.folder / ".subl").exists()


def test_until_stops_after_a_kind_of_stage(project: Project) -> None:
    assert project.run("--until", "generate").returncode == 0
    assert "row0" in project.log
    assert "update1" not in project.log


def test_force_computes_a_kind_of_stage_again(project: Project) -> None:
    project.run()
    project.run("--force", "distill")
    assert "update1" in project.log
    assert "probe student" in project.log, "what was made from it is made again too"
    assert "row0" not in project.log
    unknown = project.run("--force", "distil")
    assert unknown.returncode == 2
    assert "did you mean 'distill'?" in unknown.stderr


def test_another_title_or_target_reuses_what_does_not_depend_on_it(project: Project) -> None:
    project.run()
    project.run("--set", "title=Other")
    assert project.log == []
    project.run("--set", "trait.target=panda")
    assert project.log.count("row0") == 1, "the control arm's rows do not depend on the trait"


def test_editing_a_local_plugin_file_invalidates_its_stages(project: Project) -> None:
    copy = project.folder / "mine.py"
    source = Path(__file__).with_name("toy_plugins.py").read_text()
    copy.write_text(source)
    project.recipe.write_text(re.sub(r"plugins = .*", 'plugins = ["mine.py"]', project.recipe.read_text()))
    project.run()
    project.run()
    assert project.log == []
    copy.write_text(source + "\n# edited\n")
    project.run()
    assert "update1" in project.log


def test_a_corrupted_result_is_made_again_with_a_warning(project: Project) -> None:
    project.run()
    first = project.results()
    victim = next((project.folder / ".subl/store").glob("*/rows.jsonl"))
    victim.write_text(victim.read_text()[:-20])
    done = project.run()
    assert done.returncode == 0, done.stderr
    assert "is damaged" in done.stdout
    results = project.results()
    assert {k: v for k, v in results["files"].items() if "damaged" not in k} == first["files"]


def test_the_run_folder_holds_what_repeats_the_run(project: Project) -> None:
    project.run("--set", "distiller.rate=0.25")
    folder = sorted((project.folder / ".subl/runs").iterdir())[-1]
    assert {p.name for p in folder.iterdir()} >= {
        "recipe", "plugins", "recipe.json", "plan.json", "environment.json",
        "events.jsonl", "findings.json", "report.md",
    }  # fmt: skip
    variants = json.loads((folder / "recipe.json").read_text())["variants"]
    assert variants[0]["recipe"]["distiller"]["rate"] == 0.25
    assert variants[0]["origins"]["distiller.rate"] == "--set distiller.rate=0.25"
    assert json.loads((folder / "environment.json").read_text())["command"][-1] == "distiller.rate=0.25"


def test_runs_are_listed_and_a_killed_one_is_named_so(project: Project) -> None:
    project.run(TOY_KILL="row700")
    project.run()
    listed = json.loads(project.subl("runs", "list", "--json").stdout)
    assert [run["status"] for run in listed] == ["finished", "killed"]
    first = min((project.folder / ".subl/runs").iterdir())
    assert json.loads((first / "findings.json").read_text())["status"] == "killed", "closed when the next run started"
    shown = project.subl("runs", "show")
    assert shown.returncode == 0
    assert "other_init" in shown.stdout
    assert project.subl("runs", "show", "nonsense").returncode == 2


def test_seeds_pair_the_arms(project: Project) -> None:
    project.run("--set", "sweep.seed=[0, 1]", "--until", "generate")
    keys = json.loads((sorted((project.folder / ".subl/runs").iterdir())[-1] / "plan.json").read_text())
    seeds = {stage["key"]["seed"] for stage in keys.values() if stage["name"] == "generate"}
    assert len(seeds) == 2, "one per recipe seed, whatever the arm"


def test_an_unwritable_store_is_a_clear_error(project: Project) -> None:
    (project.folder / "taken").write_text("a file")
    done = project.run("--store", "taken")
    assert done.returncode == 2
    assert "is a file" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_processes_on_one_store_both_finish(project: Project) -> None:
    both = [processes.start_subl("run", "toy.toml", cwd=project.folder) for _ in range(2)]
    assert [process.wait().returncode for process in both] == [0, 0]
