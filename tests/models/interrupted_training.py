"""A training that ends at an update, or with its whole process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from subl.models.settings import LoraSettings, TrainSettings
from tests import tiny

SETTINGS = TrainSettings(updates=9, batch_size=4, learning_rate=1e-2, checkpoint_every=2, log_every=1)
LORA = LoraSettings(rank=4, dropout=0.1)


class Dying(tiny.RecordingSink):
    """A sink whose bar ends the process at one update."""

    def __init__(self, update: int, end: Any) -> None:
        super().__init__()
        self.update, self.end = update, end

    @contextmanager
    def bar(self, label: str, total: int | None, done: int) -> Iterator[Any]:
        self.left = self.update - done
        yield self

    def advance(self, steps: int = 1, *, note: str = "") -> None:
        self.left -= steps
        if self.left == 0:
            self.end()


def train_in(folder: Path, models: Path, *, lora: LoraSettings | None = LORA, **changes: Any) -> tuple[Any, Any]:
    """Train the tiny model in `folder`; return what was trained and the context."""
    from subl.models.training import train

    ref = tiny.tiny_model(models)
    ctx = replace(tiny.context(folder, seed=3), **changes)
    lm = ctx.load(ref, fresh=True)
    examples = lm.chat.examples([(f"Go on: {n}", ", ".join("123456"[: n % 5 + 1])) for n in range(14)], system=None)
    return train(lm, examples, SETTINGS, ctx, lora=lora, name="student"), ctx


def die_while_training(root: Path, update: int) -> None:
    """Train, and kill this process without warning at an update."""
    train_in(root / "run", root / "models", sink=Dying(update, lambda: os.kill(os.getpid(), signal.SIGKILL)))
