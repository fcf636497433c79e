"""What the tracker is told while a run goes on."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from subl.cli import main
from tests.run.conftest import Project
from tests.run.test_sync import Recording


def test_curves_are_whole_in_an_interrupted_run_its_resumption_and_a_cached_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)

    def steps(code: int) -> Counter[int]:
        tracker = Recording()
        monkeypatch.setattr("subl.tracking.tracker.open_tracker", lambda **_: tracker)
        assert main(["run", "toy.toml", "--arm", "main"]) == code
        return Counter(point.step for point in tracker.points["0"] if point.name == "distill/loss")

    whole: Any = {1: 1, 2: 1, 3: 1, 4: 1}
    with monkeypatch.context() as patch:
        patch.setenv("TOY_STOP", "update2")
        assert steps(130) == {1: 1, 2: 1}
    assert steps(0) == whole
    assert steps(0) == whole
