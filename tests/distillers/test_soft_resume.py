"""An interrupted distillation ends in the bytes, and the curves, of one that was not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from subl import Teacher
from subl.distillers.shd import Shd
from subl.testing.fakes import FakeTrait, RecordingSink, context, dataset, sink
from tests.distillers.soft import FAST, ROWS, model, weights


class Stopping(RecordingSink):
    """Stops the training at an update."""

    def __init__(self, update: int) -> None:
        super().__init__()
        self.left = update
        self.training = False

    @contextmanager
    def bar(self, label: str, total: int | None, done: int) -> Iterator[Any]:
        self.training = label == "student"
        yield self

    def advance(self, steps: int = 1, *, note: str = "") -> None:
        self.left -= steps if self.training else 0
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("cached", [False, True])
def test_a_resumed_distillation_gives_the_same_bytes(cached: bool, tmp_path: Path) -> None:
    base, other = model(tmp_path), model(tmp_path, seed=1)
    data = dataset(tmp_path, ROWS)
    settings = {"updates": 5, "batch_size": 4, "micro_batch_size": 2, "checkpoint_every": 2, "lora": {"dropout": 0.1}}
    parts = {"logit_weight": 1.0, "head_matching": "hungarian", "teacher_cache": cached}
    distiller = Shd(Shd.Config.model_validate(FAST | settings | parts))

    def run(folder: Path, **changes: Any) -> tuple[dict[str, bytes], list[tuple[str, float, int]]]:
        ctx = replace(context(folder, seed=3, trait=FakeTrait()), **changes)
        student = distiller.distill(base, Teacher(other, other), data, ctx)
        reported = [(name, value, step) for name, value, step in sink(ctx).metrics if step is not None]
        return {name: weight.numpy().tobytes() for name, weight in weights(student).items()}, sorted(reported)

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", sink=Stopping(3))
    checkpoints = tmp_path / "parts/work/checkpoints/student"
    assert [checkpoint.name for checkpoint in checkpoints.iterdir()] == ["checkpoint-2"]
    resumed = run(tmp_path / "parts")
    assert resumed[0] == whole[0]
    assert resumed[1] == whole[1]
