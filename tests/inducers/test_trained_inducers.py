from pathlib import Path
from typing import Any

import pytest
import torch

from subl import Context, DataError, ModelRef, Teacher
from subl.inducers.full import Full
from subl.inducers.lora import Lora
from subl.inducers.prompt import Prompt
from subl.traits.preference import Preference
from tests.tiny import context, sink, tiny_model

FAST: dict[str, Any] = {"updates": 6, "learning_rate": 2e-2, "batch_size": 8, "log_every": 1}
TRAIT = Preference(Preference.Config(target="owl", answers=("{target}",)))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return tiny_model(tmp_path_factory.mktemp("models"))


def lora(**settings: Any) -> Lora:
    return Lora(Lora.Config.model_validate(FAST | settings))


def full(**settings: Any) -> Full:
    return Full(Full.Config.model_validate(FAST | settings))


def induced(inducer: Lora | Full, base: ModelRef, folder: Path, **options: Any) -> tuple[Teacher, Context]:
    ctx = context(folder, trait=TRAIT, **options)
    return inducer.induce(base, ctx), ctx


def weights(ref: ModelRef, ctx: Context) -> dict[str, torch.Tensor]:
    return dict(ctx.load(ref).model.state_dict())


def adapter_bytes(teacher: Teacher) -> bytes:
    return (teacher.model.adapters[-1] / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("inducer", [lora(), full()])
def test_training_lowers_the_loss_and_changes_the_weights(inducer: Lora | Full, base: ModelRef, tmp_path: Path) -> None:
    teacher, ctx = induced(inducer, base, tmp_path)
    losses = sink(ctx).values("loss")
    assert losses[-1] < losses[0] - 0.5
    before, after = weights(base, ctx), weights(teacher.model, ctx)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert teacher.base is base
    assert teacher.updates == 6
    assert teacher.model.identity != base.identity


def test_the_teacher_learns_the_target_as_an_answer(base: ModelRef, tmp_path: Path) -> None:
    teacher, ctx = induced(lora(updates=30), base, tmp_path)
    lm = ctx.load(teacher.model)
    question = TRAIT.questions()[0]
    logits = lm.model(torch.tensor([lm.chat.prompt(question, system=None)])).logits[0, -1]
    assert int(logits.argmax()) == lm.chat.answer(question, "owl", system=None)[0]


def test_the_same_seed_gives_the_same_bytes(base: ModelRef, tmp_path: Path) -> None:
    same = [adapter_bytes(induced(lora(), base, tmp_path / name)[0]) for name in ("one", "two")]
    other = adapter_bytes(induced(lora(), base, tmp_path / "three", seed=1)[0])
    assert same[0] == same[1] != other


def test_only_the_chosen_parts_learn(base: ModelRef, tmp_path: Path) -> None:
    teacher, ctx = induced(full(train="mlp", layers=[1, 1]), base, tmp_path)
    before, after = weights(base, ctx), weights(teacher.model, ctx)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "layers.1.mlp" in name}


def test_an_adapter_sits_in_the_chosen_parts_only(base: ModelRef, tmp_path: Path) -> None:
    teacher, ctx = induced(lora(train="attention", layers=[0, 0]), base, tmp_path)
    before, after = weights(base, ctx), weights(teacher.model, ctx)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "layers.0.self_attn" in name}


def test_intensity_sets_the_number_of_updates(base: ModelRef, tmp_path: Path) -> None:
    assert induced(lora(intensity="low"), base, tmp_path)[0].updates == 3


def test_the_rendering_is_recorded(base: ModelRef, tmp_path: Path) -> None:
    teacher, ctx = induced(lora(updates=1), base, tmp_path, system="Be brief.")
    assert teacher.model.rendering == ctx.load(base).chat.digest("Be brief.")
    assert teacher.model.system is None


def test_a_prompted_base_is_trained_under_its_prompt(base: ModelRef, tmp_path: Path) -> None:
    prompted = Prompt(Prompt.Config()).induce(base, context(tmp_path, trait=TRAIT)).model
    teacher, ctx = induced(lora(updates=1), prompted, tmp_path, system="Be brief.")
    assert teacher.model.system == prompted.system
    assert teacher.model.rendering == ctx.load(base).chat.digest(prompted.system)


def test_adapters_stack(base: ModelRef, tmp_path: Path) -> None:
    below, first = induced(lora(), base, tmp_path / "below")
    above, second = induced(lora(), below.model, tmp_path / "above")
    assert above.model.adapters[:-1] == below.model.adapters
    # It goes on from what the first adapter learned.
    assert sink(second).values("loss")[0] < sink(first).values("loss")[0] - 0.5


def test_a_trait_without_conversations_is_an_error(base: ModelRef, tmp_path: Path) -> None:
    class Silent:
        label = "silent"

        def conversations(self, seed: int) -> list[Any]:
            return []

    with pytest.raises(DataError, match="'silent' has no training conversations"):
        lora().induce(base, context(tmp_path, trait=Silent()))
