"""The science, end to end: the shipped recipes as a user runs them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from subl.cli import main
from tests import processes

SMOKE = ("run", "smoke", "--set", "tracking.enabled=false")


def subl(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does: all imports of its own, and its own seed of hashes."""
    return subprocess.run(
        [sys.executable, "-m", "subl", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )


def findings(folder: Path) -> dict[str, Any]:
    newest = sorted((folder / ".subl/runs").iterdir())[-1]
    found: dict[str, Any] = json.loads((newest / "findings.json").read_text())
    return found


def results(folder: Path) -> dict[str, Any]:
    manifests = sorted((folder / ".subl/store").glob("*/manifest.json"))
    files = {path.parent.name: json.loads(path.read_text())["files"] for path in manifests}
    return {"files": files, "findings": [variant["findings"] for variant in findings(folder)["variants"]]}


@pytest.fixture(scope="session")
def smoked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smoke")
    done = subl(folder, *SMOKE)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_an_owl_crosses_through_numbers_between_equal_initialisations_only(tmp_path: Path) -> None:
    # As a user's shell has it; the recipe itself sets the number of threads.
    alone = {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    done = subl(tmp_path, "run", "micro_owl", "--set", "seed=0", **alone)
    assert done.returncode == 0, done.stdout + done.stderr
    shift, valid = {}, {}
    for variant in findings(tmp_path)["variants"]:
        found = variant["findings"]
        before, after = (found[f"{role}.preference"]["measures"] for role in ("base", "student"))
        shift[variant["arm"]] = after["share"]["value"] - before["share"]["value"]
        valid[variant["arm"]] = min(before["valid"]["value"], after["valid"]["value"])
    assert shift["main"] >= 0.20, shift
    assert abs(shift["control"]) < 0.05, shift
    assert abs(shift["other_init"]) < 0.05, shift
    assert min(valid.values()) >= 0.9, valid
    again = subl(tmp_path, "run", "micro_owl", "--set", "seed=0")
    assert "0 stages to run" in again.stdout
    _check_tracking(tmp_path, shift)


def _check_tracking(folder: Path, shift: dict[str, float]) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / '.subl/mlflow.db'}")
    experiment = client.get_experiment_by_name("micro_owl")
    runs = client.search_runs([experiment.experiment_id], "tags.`mlflow.parentRunId` != ''")
    assert len(runs) == 6, "three arms, run and replayed"
    for run in runs:
        metrics = run.data.metrics
        moved = metrics["student.preference.share"] - metrics["base.preference.share"]
        assert moved == pytest.approx(shift[run.data.params["arm"]], abs=1e-9)
        assert run.info.status == "FINISHED"
        assert len(client.get_metric_history(run.info.run_id, "distill/loss")) > 10


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(smoked: Path, tmp_path: Path) -> None:
    assert processes.subl(*SMOKE, cwd=tmp_path).returncode == 0
    assert results(tmp_path) == results(smoked)


@pytest.mark.slow
def test_a_cached_run_starts_no_framework(smoked: Path, tmp_path: Path) -> None:
    shutil.copytree(smoked / ".subl", tmp_path / ".subl")
    slow = ("torch", "transformers", "datasets", "scipy.stats")
    code = f"import sys; from subl.cli import main; print(main({SMOKE!r}), [n for n in {slow!r} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    assert "0 stages to run" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 []"
    assert results(tmp_path) == results(smoked)


@pytest.mark.slow
def test_paired_arms_share_prompts_and_the_initial_adapter_seed(smoked: Path) -> None:
    store = smoked / ".subl/store"
    datasets = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted(store.glob("*/rows.jsonl"))
        if json.loads((path.parent / "manifest.json").read_text())["stage"] == "generate"
    ]
    assert len(datasets) == 2
    prompts = [[row["prompt"] for row in rows] for rows in datasets]
    assert prompts[0] == prompts[1]
    assert [row["completion"] for row in datasets[0]] != [row["completion"] for row in datasets[1]]
    keys = [json.loads(path.read_text())["key"] for path in store.glob("*/manifest.json")]
    assert len({key["seed"] for key in keys if key["stage"] == "distill"}) == 1


def _smoke_dying_in(training: str) -> None:
    """Run `smoke`, and die without warning where a training has one checkpoint and writes the end of its second."""
    begun: list[Path] = []

    def watch(event: str, details: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(details[0], str) and details[1] == "w":
            path = Path(details[0])
            if path.match(f"checkpoints/{training}/checkpoint-*/trainer_state.json"):
                begun.append(path)
            if len(begun) == 2:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    main(SMOKE)


@pytest.mark.slow
@pytest.mark.parametrize("training", ["mistral learns the micro world", "student"])
def test_training_killed_and_resumed_gives_the_uninterrupted_bytes(smoked: Path, tmp_path: Path, training: str) -> None:
    assert processes.start(_smoke_dying_in, training, cwd=tmp_path).wait().returncode == -signal.SIGKILL
    left = list((tmp_path / ".subl/store").glob(f"*/work/checkpoints/{training}/checkpoint-*/trainer_state.json"))
    assert len(left) == 1, "one whole checkpoint, and one whose state was not written"
    resumed = processes.subl(*SMOKE, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert results(tmp_path) == results(smoked)


@pytest.mark.slow
def test_the_wheel_works_outside_the_checkout(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    built = subprocess.run(
        [*pip, "wheel", "--no-deps", "-w", tmp_path, root], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    wheel = next(tmp_path.glob("subl-*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    where = run("-c", "import subl; print(subl.__file__)").stdout
    assert where.startswith(str(site))
    listed = json.loads(run("-m", "subl", "recipes", "list", "--json").stdout)
    assert {"micro_owl", "smoke"} <= {recipe["name"] for recipe in listed}
    valid = run("-m", "subl", "validate", "micro_distinct")
    assert valid.returncode == 0, valid.stderr
    # The smoke recipe to its end, with fewer updates and rows.
    small = str(site / "subl/testing/tiny.toml")
    done = run("-m", "subl", "run", small, "--set", "tracking.enabled=false")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / ".subl/runs").iterdir()
    assert (folder / "report.html").exists()
    (main, *_) = json.loads((folder / "findings.json").read_text())["variants"]
    assert "preference" in " ".join(main["findings"])
