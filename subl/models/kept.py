"""States of an adapter along its training that are kept for those who look at the course."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


def kept_at(count: int, updates: int) -> tuple[int, ...]:
    """Return after which updates `count` states are kept: evenly spaced, never after the last, which is the result."""
    return tuple(sorted({round(updates * i / (count + 1)) for i in range(1, count + 1)} - {0, updates}))


def save_adapter(model: Any, folder: Path) -> None:
    """Write an adapter, the same bytes in every process."""
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_config.json"
    # PEFT writes the targets as a set, whose order changes from process to process.
    config = json.loads(file.read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


class Keeper(TrainerCallback):  # type: ignore[misc]
    """Saves the adapter after given updates; what an interrupted training had saved stays.

    Args:
        model: The PEFT model that is trained.
        folder: Survives an interruption.
        at: Updates.
    """

    def __init__(self, model: Any, folder: Path, at: Sequence[int]) -> None:
        self._model = model
        self._folder = folder
        self._at = tuple(at)

    def on_step_end(self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any) -> None:
        """Save, in one step: a torn folder must not count as saved."""
        place = self._folder / str(state.global_step)
        if state.global_step not in self._at or place.exists():
            return
        unfinished = place.with_name(f"{place.name}.part")
        shutil.rmtree(unfinished, ignore_errors=True)
        save_adapter(self._model, unfinished)
        unfinished.rename(place)

    def publish(self, out: Path) -> tuple[tuple[int, Path], ...]:
        """Move everything into `out`; return updates and folders in order."""
        moved = []
        for updates in self._at:
            place = out / str(updates)
            out.mkdir(parents=True, exist_ok=True)
            shutil.move(self._folder / str(updates), place)
            moved.append((updates, place))
        return tuple(moved)
