import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from subl import DataError, Dataset, ModelRef, Row, Student, Teacher
from subl.artifacts import write_rows
from subl.context import Context
from subl.distillers.sft import Sft
from subl.registry.registry import registry
from tests.tiny import context, sink, tiny_model

FAST: dict[str, Any] = {"updates": 6, "learning_rate": 2e-2, "batch_size": 8, "log_every": 1, "scheduler": "constant"}
ROWS = [Row(index, f"Continue: {index}, {index + 1}", f"{index + 2}, {index + 3}") for index in range(8)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return tiny_model(tmp_path_factory.mktemp("models"))


def sft(**settings: Any) -> Sft:
    return Sft(Sft.Config.model_validate(FAST | settings))


def dataset(folder: Path, rows: list[Row]) -> Dataset:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rows.jsonl"
    return Dataset(path, write_rows(path, rows), seen=len(rows))


def distilled(
    distiller: Sft, base: ModelRef, folder: Path, rows: list[Row] | None = None, **options: Any
) -> tuple[Student, Context]:
    ctx = context(folder, **options)
    data = dataset(folder, ROWS if rows is None else rows)
    return distiller.distill(base, Teacher(base, base), data, ctx), ctx


def adapter(student: Student) -> dict[str, torch.Tensor]:
    return dict(load_file(student.model.adapters[-1] / "adapter_model.safetensors"))


def test_it_keeps_the_contract_of_a_distiller() -> None:
    assert registry.load("distiller", "sft") is Sft


def test_importing_it_loads_no_framework() -> None:
    heavy = "torch transformers trl peft numpy scipy matplotlib mlflow"
    code = f"import sys, subl.distillers.sft; assert not set('{heavy}'.split()) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_student_learns_the_rows(method: str, base: ModelRef, tmp_path: Path) -> None:
    student, ctx = distilled(sft(method=method, updates=10), base, tmp_path)
    assert completion_loss(student.model, ctx) < completion_loss(base, ctx) - 0.5
    assert (student.base, student.updates) == (base, 10)
    assert bool(student.model.adapters) == (method == "lora")
    assert student.model.rendering == ctx.load(base).chat.digest(None)


def completion_loss(ref: ModelRef, ctx: Context) -> float:
    """Compute the mean loss over completion tokens row by row, in float64."""
    lm = ctx.load(ref, fresh=True)
    model = lm.model.double()
    total, tokens = 0.0, 0
    for row in ROWS:
        example = lm.chat.example(row.prompt, row.completion, system=ctx.system)
        logits = model(torch.tensor([example.input_ids])).logits[0].log_softmax(-1)
        for position in range(example.prompt_length, len(example.input_ids)):
            total -= float(logits[position - 1, example.input_ids[position]])
            tokens += 1
    return total / tokens


def test_the_loss_is_over_completions_only(base: ModelRef, tmp_path: Path) -> None:
    _, ctx = distilled(sft(), base, tmp_path)
    assert sink(ctx).values("loss")[0] == pytest.approx(completion_loss(base, ctx), rel=1e-3)


def test_rows_are_rendered_with_the_system_slot(base: ModelRef, tmp_path: Path) -> None:
    student, ctx = distilled(sft(), base, tmp_path, system="Be brief.")
    assert student.model.rendering == ctx.load(base).chat.digest("Be brief.")
    assert sink(ctx).values("loss")[0] == pytest.approx(completion_loss(base, ctx), rel=1e-3)


def test_arms_start_from_the_same_adapter(base: ModelRef, tmp_path: Path) -> None:
    still = sft(updates=1, learning_rate=1e-30)
    other_rows = [Row(row.index, row.prompt, "9, 9, 9") for row in ROWS]
    one = adapter(distilled(still, base, tmp_path / "one")[0])
    two = adapter(distilled(still, base, tmp_path / "two", other_rows)[0])
    three = adapter(distilled(still, base, tmp_path / "three", seed=1)[0])
    first = [name for name in one if "lora_A" in name]
    assert first
    assert all(torch.equal(one[name], two[name]) for name in first)
    assert not any(torch.equal(one[name], three[name]) for name in first)


def test_the_same_seed_gives_the_same_student(base: ModelRef, tmp_path: Path) -> None:
    one, two = (distilled(sft(), base, tmp_path / name)[0].model for name in ("one", "two"))
    assert one.identity == two.identity


def test_no_rows_are_an_error(base: ModelRef, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl: no rows to train on"):
        distilled(sft(), base, tmp_path, [])


@pytest.mark.parametrize("completion", ["", " \n"])
def test_an_empty_completion_is_an_error_that_names_the_row(completion: str, base: ModelRef, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl: the completion of row 41 is empty"):
        distilled(sft(), base, tmp_path, [*ROWS, Row(41, "Continue: 1", completion)])


def test_adapter_settings_without_an_adapter_are_an_error() -> None:
    with pytest.raises(ValidationError, match="does nothing with method"):
        sft(method="full", lora={"rank": 4})


def test_settings_survive_a_walk_through_json() -> None:
    config = Sft.Config(method="full")
    assert Sft.Config.model_validate_json(config.model_dump_json()) == config
