"""Run by torch's launcher in several processes, or imported by one: trainings, distillations and rows, as numbers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from subl import ModelRef, Teacher
from subl.models import ranks
from subl.models.settings import LoraSettings, TrainSettings
from tests import tiny

UPDATES = TrainSettings(updates=4, batch_size=4, learning_rate=1e-2, log_every=1, checkpoint_every=0)
"""Ten examples make an epoch of two whole batches and half a one."""


def everything(folder: Path, models: Path) -> dict[str, Any]:
    """Return losses, other logged numbers and the sum of all weights of each training, and the rows of a generator."""
    results: dict[str, Any] = {
        "lora": tuned(folder / "lora", models, UPDATES, LoraSettings(rank=4)),
        "full": tuned(folder / "full", models, UPDATES.model_copy(update={"micro_batch_size": 1}), None),
    }
    for name, distiller in distillers().items():
        results[name] = distilled(distiller, folder / name, models)
    results["rows"] = rows(folder / "rows", models)
    return results


def tuned(folder: Path, models: Path, settings: TrainSettings, lora: LoraSettings | None) -> dict[str, Any]:
    from subl.models.training import train

    ctx = tiny.context(folder, seed=3)
    lm = ctx.load(tiny.tiny_model(models), fresh=True)
    examples = lm.chat.examples([(f"Go on: {n}", ", ".join("123456"[: n % 5 + 1])) for n in range(10)], system=None)
    trained = train(lm, examples, settings, ctx, lora=lora, name="student")
    return numbers(ctx, trained.folder)


def distillers() -> dict[str, Any]:
    from subl.distillers.logit_kd import LogitKd
    from subl.distillers.shd import Shd
    from tests.distillers.soft import FAST

    four = FAST | {"batch_size": 4}
    # Maps of the first layer alone: nothing above it gets a gradient.
    low = four | {"lm_weight": 0.0, "student_layers": (0,), "teacher_layers": (0,), "method": "full"}
    both = four | {"logit_weight": 1.0, "micro_batch_size": 1}
    return {
        "logit_kd": LogitKd(LogitKd.Config.model_validate(four)),
        "maps of one layer": Shd(Shd.Config.model_validate(low)),
        "maps, logits and text": Shd(Shd.Config.model_validate(both)),
    }


def distilled(distiller: Any, folder: Path, models: Path) -> dict[str, Any]:
    from tests.distillers import soft

    student, ctx = soft.distilled(distiller, soft.model(models), soft.model(models, seed=1), folder)
    return numbers(ctx, student.model.adapters[-1] if student.model.adapters else student.model.path)


def numbers(ctx: Any, weights: Path | None) -> dict[str, Any]:
    from safetensors.torch import load_file

    metrics = [(name, step, value) for name, value, step in tiny.sink(ctx).metrics if step is not None]
    sums: dict[str, float] = {}
    for file in sorted(weights.glob("*.safetensors")) if weights else ():
        sums |= {name: float(weight.double().sum()) for name, weight in load_file(file).items()}
    return {"metrics": metrics, "weights": sums}


def rows(folder: Path, models: Path) -> list[str]:
    from subl.generators.numbers import Numbers

    model: ModelRef = tiny.tiny_model(models)
    config = Numbers.Config.model_validate({"samples": 45, "batch_size": 3, "sampling": {"max_new_tokens": 8}})
    written = Numbers(config).generate(Teacher(model, model), tiny.context(folder, seed=5), 7)
    return [row.to_json() for row in written]


def main(folder: Path) -> None:
    torch.distributed.init_process_group("gloo")
    models = folder / "models"
    if ranks.index() == 0:  # before the others look for them
        prepared(models)
    ranks.barrier()
    results = everything(folder / str(ranks.index()), models)
    (folder / f"{ranks.index()}.json").write_text(json.dumps(results))


def prepared(models: Path) -> None:
    from tests.distillers import soft

    tiny.tiny_model(models)
    for seed in range(2):
        soft.model(models, seed=seed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
