import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import processes

TOY = Path(__file__).parent / "toy_plugins.py"

RECIPE = f"""
title = "Toy"
plugins = ["{TOY.name}"]
seed = 0

[teacher]
plugin = "toy"
[trait]
plugin = "toy"
[inducer]
plugin = "toy"
[check]
plugin = "toy"
[generator]
plugin = "toy"
[[filters]]
plugin = "toy"
[distiller]
plugin = "toy"
[[probes]]
plugin = "toy"
[audit]
classifier_rows = 0
[compute]
device = "cpu"
[tracking]
enabled = false
[report]
metric = "toy.share"

[arms.control.inducer]
plugin = "toy_none"
[arms.other_init.student]
init = 5
"""


class Project:
    """A folder with a recipe, and the command line run in it as a user would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe = folder / "toy.toml"
        self.recipe.write_text(RECIPE)
        shutil.copy(TOY, folder)

    @property
    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    def subl(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "log").unlink(missing_ok=True)
        log = {"TOY_LOG": str(self.folder / "log"), "COLUMNS": "200"}
        return processes.subl(*arguments, cwd=self.folder, **log, **environment)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.subl("run", "toy.toml", *arguments, **environment)

    def findings(self) -> dict[str, Any]:
        """The newest run's findings, without what names the run itself."""
        newest = sorted((self.folder / ".subl/runs").iterdir())[-1]
        found: dict[str, Any] = json.loads((newest / "findings.json").read_text())
        return found

    def finished_stages(self) -> set[tuple[str, str]]:
        """Variant and stage of what the newest run's events say has ended."""
        newest = sorted((self.folder / ".subl/runs").iterdir())[-1]
        events = [json.loads(line) for line in (newest / "events.jsonl").read_text().splitlines()]
        return {(event["variant"], event["stage"]) for event in events if event["event"] == "stage"}

    def results(self) -> dict[str, Any]:
        """What must be equal between equal runs: findings and every stored file by hash."""
        store = self.folder / ".subl/store"
        manifests = {p.parent.name: json.loads(p.read_text())["files"] for p in sorted(store.glob("*/manifest.json"))}
        return {"files": manifests, "findings": [v["findings"] for v in self.findings()["variants"]]}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], dict[str, Any]]:
    cache: list[dict[str, Any]] = []

    def results() -> dict[str, Any]:
        if not cache:
            project = Project(tmp_path_factory.mktemp("whole"))
            done = project.run()
            assert done.returncode == 0, done.stderr
            cache.append(project.results())
        return cache[0]

    return results
