"""A training that was killed ends as if it had not been."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from subl.models.training import last_checkpoint
from tests import processes, tiny
from tests.models.interrupted_training import Dying, die_while_training, train_in


class Stopped(BaseException):
    pass


def stop() -> None:
    raise Stopped


def weights(trained: Any) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(trained.folder.glob("*.safetensors")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("whole")
    return train_in(folder, folder)


def test_a_killed_process_leaves_checkpoints_from_which_the_same_bytes_come(whole: Any, tmp_path: Path) -> None:
    assert processes.start(die_while_training, tmp_path, 7, cwd=tmp_path).wait().returncode == -signal.SIGKILL
    assert [c.name for c in (tmp_path / "run/work/checkpoints/student").iterdir()] == ["checkpoint-6"]
    trained, ctx = train_in(tmp_path / "run", tmp_path / "models")
    assert weights(trained) == weights(whole[0])
    assert [step for name, _, step in tiny.sink(ctx).metrics if name == "loss"] == list(range(1, 10))
    assert tiny.sink(ctx).values("loss") == tiny.sink(whole[1]).values("loss")


@pytest.mark.parametrize("update", [1, 3, 8])
def test_an_interruption_at_any_update_changes_nothing(whole: Any, tmp_path: Path, update: int) -> None:
    with pytest.raises(Stopped):
        train_in(tmp_path, tmp_path, sink=Dying(update, stop))
    assert not (tmp_path / "out" / "adapter").exists()
    trained, _ = train_in(tmp_path, tmp_path)
    assert weights(trained) == weights(whole[0])
    assert not (tmp_path / "work" / "checkpoints" / "student").exists()


def test_full_training_resumes_to_the_same_bytes_too(tmp_path: Path) -> None:
    whole, _ = train_in(tmp_path / "whole", tmp_path, lora=None)
    with pytest.raises(Stopped):
        train_in(tmp_path / "run", tmp_path, lora=None, sink=Dying(5, stop))
    trained, _ = train_in(tmp_path / "run", tmp_path, lora=None)
    assert weights(trained) == weights(whole)


def test_a_checkpoint_that_was_being_written_is_ignored(whole: Any, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train_in(tmp_path, tmp_path, sink=Dying(5, stop))
    half = tmp_path / "work/checkpoints/student/checkpoint-6"
    half.mkdir()
    (half / "adapter_model.safetensors").write_bytes(b"half")
    (half / "trainer_state.json").write_text('{"global_step": 6')
    trained, _ = train_in(tmp_path, tmp_path)
    assert weights(trained) == weights(whole[0])


def test_the_last_whole_checkpoint_is_the_newest_with_a_readable_state(tmp_path: Path) -> None:
    states = {9: '{"global_step": 9}', 10: '{"global_step": 10}', 11: None, 12: "", 13: '{"global_st', 14: "{}"}
    for step, state in states.items():
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    assert last_checkpoint(tmp_path / "nowhere") is None
