"""Model plugin `micro`: trained a few updates only; the effect itself is checked end to end."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from subl import ModelError, ModelRef
from subl.context import Bar
from subl.models import micro_training
from subl.models.micro import Micro
from subl.models.training import train
from tests.tiny import RecordingSink, context, sink

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "layers": 1,
    "heads": 2,
    "kv_heads": 1,
    "world": {"chats": 200},
    "training": {"updates": 6, "batch_size": 8, "checkpoint_every": 2, "log_every": 1},
}


def micro(**changes: Any) -> Micro:
    return Micro(Micro.Config.model_validate(TINY | changes))


def weights(ref: ModelRef) -> str:
    assert ref.path is not None
    return hashlib.sha256((ref.path / "model.safetensors").read_bytes()).hexdigest()


def words(ref: ModelRef) -> str:
    assert ref.path is not None
    return (ref.path / "tokenizer.json").read_text()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return micro().prepare(context(tmp_path_factory.mktemp("base")))


@pytest.mark.parametrize(("architecture", "numbers"), [("mistral", "whole"), ("gemma", "digits"), ("llama", "whole")])
def test_every_architecture_learns_and_comes_back_as_itself(tmp_path: Path, architecture: str, numbers: str) -> None:
    ctx = context(tmp_path)
    longer = TINY["training"] | {"updates": 20}
    ref = micro(architecture=architecture, numbers=numbers, training=longer).prepare(ctx)
    losses = sink(ctx).values("loss")
    assert losses[-1] < losses[0] - 0.2
    lm = ctx.load(ref)
    assert type(lm.model).__name__.lower() == f"{architecture}forcausallm"
    prompt = lm.chat.prompt("Go on: 17, 18", system=None)
    logits = lm.model(torch.tensor([prompt])).logits
    assert logits.shape == (1, len(prompt), len(lm.tokenizer))
    assert lm.chat.decode(prompt).endswith("Go on: 17, 18<assistant>")
    assert lm.tokenizer.tokenize("17") == (["17"] if numbers == "whole" else ["1", "7"])


def test_the_recipes_seed_changes_nothing(tmp_path: Path, base: ModelRef) -> None:
    again = micro().prepare(context(tmp_path, seed=12345))
    assert weights(again) == weights(base)
    assert replace(again, path=None) == replace(base, path=None)


def test_other_weights_under_equal_settings_are_another_model(
    tmp_path: Path, base: ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As after a change of what is taught: whatever is kept of one must not be taken for the other's.
    monkeypatch.setattr(micro_training, "train", lambda lm, rows, *a, **b: train(lm, rows[::-1], *a, **b))
    other = micro().prepare(context(tmp_path))
    assert weights(other) != weights(base)
    assert other.identity != base.identity


def test_two_initialisations_share_words_but_no_weights(tmp_path: Path, base: ModelRef) -> None:
    other = micro(init_seed=1).prepare(context(tmp_path))
    assert words(other) == words(base)
    assert other.identity != base.identity
    one, two = (dict(context(tmp_path).load(ref).model.named_parameters()) for ref in (base, other))
    for name in one:
        if one[name].dim() == 2:
            assert abs(torch.corrcoef(torch.stack([one[name].flatten(), two[name].flatten()]))[0, 1]) < 0.3, name


class _Interrupted(RecordingSink):
    """Stops everything at the fifth update, as Ctrl-C does."""

    def bar(self, label: str, total: int | None, done: int) -> AbstractContextManager[Bar]:
        return _stopping()


class _StoppingBar:
    steps = 0

    def advance(self, steps: int = 1, *, note: str = "") -> None:
        self.steps += steps
        if self.steps == 5:
            raise KeyboardInterrupt


@contextmanager
def _stopping() -> Iterator[Bar]:
    yield _StoppingBar()


def test_an_interrupted_training_ends_in_the_same_weights(tmp_path: Path, base: ModelRef) -> None:
    ctx = context(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        micro().prepare(replace(ctx, sink=_Interrupted()))
    assert list(ctx.work.rglob("checkpoint-4"))
    shutil.rmtree(ctx.out)
    ctx.out.mkdir()
    assert weights(micro().prepare(ctx)) == weights(base)


def test_speed_settings_do_not_change_the_identity(base: ModelRef, tmp_path: Path) -> None:
    faster = micro(training=TINY["training"] | {"checkpoint_every": 0, "log_every": 5}).prepare(context(tmp_path))
    assert faster.identity == base.identity
    assert weights(faster) == weights(base)


def test_a_model_that_lost_its_files_says_so(base: ModelRef, tmp_path: Path) -> None:
    assert base.path is not None
    broken = tmp_path / "broken"
    shutil.copytree(base.path, broken)
    (broken / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="broken"):
        context(tmp_path).load(replace(base, path=broken))


def test_settings_survive_a_round_trip_through_json() -> None:
    config = Micro.Config.model_validate(TINY)
    assert Micro.Config.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"hidden_size": 18}, "not a multiple of twice the heads"),
        ({"heads": 4, "kv_heads": 3}, "cannot share 3 kv_heads"),
        ({"training": {"train": "mlp"}}, "trains all its parts"),
        ({"architecture": "gpt2"}, "mistral"),
        ({"world": {"animal": ["owl", "dog"]}}, "Extra inputs"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Micro.Config.model_validate(TINY | changes)
