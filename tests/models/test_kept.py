"""States of an adapter that are kept along a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file

from subl import ModelError, ModelRef, Student
from subl.artifacts import load_artifact, save_artifact
from subl.distillers.logit_kd import LogitKd
from subl.distillers.sft import Sft
from subl.models.kept import Keeper, kept_at
from tests.distillers.soft import FAST, distilled, model
from tests.tiny import context


@given(st.integers(0, 12), st.integers(1, 40))
def test_they_are_spread_evenly_and_lie_before_the_end(count: int, updates: int) -> None:
    at = kept_at(count, updates)
    assert all(0 < update < updates for update in at)
    assert list(at) == sorted(set(at))
    assert len(at) == min(count, updates - 1) or count >= updates / 2
    if count and updates % (count + 1) == 0:
        assert at == tuple(updates // (count + 1) * i for i in range(1, count + 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kept_checkpoints": 2, "method": "full"}, 'method "full" has none; set method = "lora"'),
        ({"kept_checkpoints": 4, "updates": 4}, "more than there are before the last of 4 updates"),
        ({"kept_checkpoints": -1}, "greater than or equal to 0"),
    ],
)
def test_what_cannot_be_kept_is_an_error_of_the_recipe(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Sft.Config.model_validate(settings)


def test_epochs_too_few_for_them_are_an_error_before_the_training(folder: Path, base: ModelRef) -> None:
    with pytest.raises(ModelError, match="kept_checkpoints = 4 are more than there are before the last of 3 updates"):
        trained(folder / "few", base, updates=None, epochs=3, kept_checkpoints=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def base(folder: Path) -> ModelRef:
    return model(folder)


def trained(folder: Path, base: ModelRef, **settings: Any) -> Student:
    config = Sft.Config.model_validate(FAST | {"kept_checkpoints": 1} | settings)
    return distilled(Sft(config), base, base, folder)[0]


def adapter(student: Student) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = load_file(student.model.adapters[-1] / "adapter_model.safetensors")
    return loaded


def test_a_kept_state_is_the_student_of_a_shorter_training(folder: Path, base: ModelRef) -> None:
    student = trained(folder / "whole", base)
    (half,) = student.checkpoints
    assert half.updates == 2
    assert half.model.identity != student.model.identity
    short = trained(folder / "short", base, updates=2, kept_checkpoints=0)
    assert not short.checkpoints
    assert short.model.identity == half.model.identity
    for name, values in adapter(half).items():
        torch.testing.assert_close(values, adapter(short)[name], atol=0, rtol=0)
    plain = trained(folder / "plain", base, kept_checkpoints=0)
    assert plain.model.identity == student.model.identity, "keeping states changes nothing else"


def test_they_are_saved_and_loaded_with_the_student(folder: Path, base: ModelRef) -> None:
    student = trained(folder / "saved", base)
    place = folder / "artifact"
    place.mkdir()
    save_artifact(student, place, root=folder)
    again = load_artifact(place, root=folder)
    (kept,), (loaded,) = student.checkpoints, again.checkpoints
    assert (loaded.updates, loaded.model.identity) == (kept.updates, kept.model.identity)
    assert [p.resolve() for p in loaded.model.adapters] == [p.resolve() for p in kept.model.adapters]
    assert context(folder / "load").load(loaded.model).ref.identity == kept.model.identity


def test_the_other_distillers_keep_them_too(folder: Path, base: ModelRef) -> None:
    config = LogitKd.Config.model_validate(FAST | {"kept_checkpoints": 3})
    student, _ = distilled(LogitKd(config), base, model(folder, seed=1), folder / "logits")
    assert [state.updates for state in student.checkpoints] == [1, 2, 3]


def test_what_was_kept_before_an_interruption_stays_and_torn_folders_do_not_count(folder: Path, base: ModelRef) -> None:
    work = folder / "torn_work"
    (work / "3.part").mkdir(parents=True)
    (work / "2").mkdir()
    (work / "2" / "mark").write_text("earlier", encoding="utf-8")

    class Saving:
        def save_pretrained(self, place: Path) -> None:
            place.mkdir()
            (place / "adapter_config.json").write_text('{"target_modules": ["b", "a"]}', encoding="utf-8")

    keeper = Keeper(Saving(), work, (2, 3))
    for step in (1, 2, 3, 4):
        keeper.on_step_end(None, _State(step), None)
    kept = dict(keeper.publish(folder / "torn_out"))
    assert sorted(kept) == [2, 3]
    assert (kept[2] / "mark").read_text(encoding="utf-8") == "earlier"
    assert '"a",\n    "b"' in (kept[3] / "adapter_config.json").read_text(encoding="utf-8")


class _State:
    def __init__(self, step: int) -> None:
        self.global_step = step
