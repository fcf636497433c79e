"""Two processes on the CPU do what one does: the same losses, weights and rows for the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from subl.errors import ModelError
from subl.models import ranks
from tests.models.shared_training import everything, prepared


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the results of one process, and of each of two."""
    folder = tmp_path_factory.mktemp("shared")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    done = subprocess.run(
        [sys.executable, *launcher, "tests.models.shared_training", str(folder)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-20_000:]
    prepared(folder / "models")
    return everything(folder / "alone", folder / "models"), [
        json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)
    ]


@pytest.mark.parametrize("name", ["lora", "full", "logit_kd", "maps of one layer", "maps, logits and text"])
def test_two_processes_train_as_one(both: tuple[dict[str, Any], list[dict[str, Any]]], name: str) -> None:
    alone, (first, _) = both
    expected = {(metric, step): value for metric, step, value in alone[name]["metrics"]}
    found = {(metric, step): value for metric, step, value in first[name]["metrics"]}
    losses = [value for (metric, _), value in expected.items() if metric == "loss"]
    assert len(losses) == 4
    assert len(set(losses)) == len(losses), "a curve that moves"
    # Statistics that are averaged over micro-batches depend on their number; losses and gradients must not.
    compared = {key for key in expected if key[0].startswith(("loss", "grad_norm", "learning_rate"))}
    assert {key: found[key] for key in compared} == pytest.approx({key: expected[key] for key in compared}, rel=2e-5)
    assert first[name]["weights"] == pytest.approx(alone[name]["weights"], rel=1e-4, abs=1e-4)


def test_both_processes_get_the_rows_of_one_byte_for_byte(both: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    alone, (first, second) = both
    assert len(alone["rows"]) == 38
    assert first["rows"] == second["rows"] == alone["rows"]


def test_alone_nothing_is_shared() -> None:
    assert (ranks.count(), ranks.index(), ranks.agreed("x")) == (1, 0, "x")
    assert list(ranks.share(iter([1, 2, 3]), lambda n: n * n)) == [1, 4, 9]


def test_a_batch_that_cannot_be_shared_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from subl.models.settings import TrainSettings
    from subl.models.training import _micro_batch

    monkeypatch.setattr(ranks, "count", lambda: 3)
    assert _micro_batch(TrainSettings(batch_size=12)) == 4
    with pytest.raises(ModelError, match="batch_size 8 cannot be shared out among 3 processes"):
        _micro_batch(TrainSettings(batch_size=8))
