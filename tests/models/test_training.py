"""Training: what learns, from which tokens, in which order, and what is left behind."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from trl import SFTTrainer

from subl.artifacts import ModelRef
from subl.errors import DataError, ModelError
from subl.models.chat import Example
from subl.models.loader import ModelLoader
from subl.models.scoring import continuation_log_probs
from subl.models.settings import LoraSettings, TrainSettings
from subl.models.training import Trained, derived, train
from tests import tiny

LORA = LoraSettings(rank=4)
PAIRS = [(f"Go on: {n}", ", ".join("123456"[: n % 5 + 1])) for n in range(12)]


@pytest.fixture(scope="module")
def ref(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return tiny.tiny_model(tmp_path_factory.mktemp("models"))


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings(**({"updates": 4, "batch_size": 4, "learning_rate": 1e-2, "log_every": 1} | changes))


def run(
    ref: ModelRef,
    folder: Path,
    *,
    seed: int = 0,
    lora: LoraSettings | None = LORA,
    pairs: Any = PAIRS,
    trainer: type[SFTTrainer] = SFTTrainer,
    **changes: Any,
) -> tuple[Trained, Any, Any]:
    ctx = tiny.context(folder, seed=seed)
    lm = ctx.load(ref, fresh=True)
    examples = lm.chat.examples(pairs, system=None)
    trained = train(lm, examples, settings(**changes), ctx, lora=lora, name="student", trainer=trainer)
    return trained, ctx, lm


def weights(trained: Trained) -> dict[str, torch.Tensor]:
    (file,) = trained.folder.glob("*.safetensors")
    return load_file(file)  # type: ignore[no-any-return]


def file_bytes(trained: Trained) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in trained.folder.iterdir()}


def spied(*args: Any, **kwargs: Any) -> tuple[list[list[int]], dict[str, torch.Tensor]]:
    """Return the rows of every batch, and what learns as it was at the start."""
    rows: list[list[int]] = []
    start: dict[str, torch.Tensor] = {}

    class Spy(SFTTrainer):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            learning = ((name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad)
            start.update((name, weight.detach().clone()) for name, weight in learning)
            collate = vars(self)["data_collator"]

            def noting(features: list[dict[str, Any]]) -> Any:
                rows.append([feature["row"] for feature in features])
                return collate(features)

            self.data_collator = noting

    run(*args, trainer=Spy, **kwargs)
    return rows, start


@pytest.mark.parametrize("lora", [LORA, None])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    ref: ModelRef, tmp_path: Path, lora: LoraSettings | None
) -> None:
    one, two, other = (
        run(ref, tmp_path / name, seed=seed, lora=lora)[0] for name, seed in [("one", 5), ("two", 5), ("other", 6)]
    )
    assert file_bytes(one) == file_bytes(two)
    assert file_bytes(one) != file_bytes(other)
    assert one.adapter == (lora is not None)
    assert one.updates == 4


def test_arms_see_the_same_order_and_start_from_the_same_adapter(ref: ModelRef, tmp_path: Path) -> None:
    other_rows = [(question, answer[::-1]) for question, answer in PAIRS]
    first = spied(ref, tmp_path / "a", seed=1)
    second = spied(ref, tmp_path / "b", seed=1, pairs=other_rows)
    assert first[0] == second[0]
    assert sorted(row for batch in first[0][:3] for row in batch) == list(range(12))
    assert first[1].keys() == second[1].keys()
    assert all(torch.equal(weight, second[1][name]) for name, weight in first[1].items())
    assert any("lora_A" in name and weight.abs().sum() > 0 for name, weight in first[1].items())
    assert first[0] != spied(ref, tmp_path / "c", seed=2)[0]


def test_the_order_of_one_arm_does_not_depend_on_the_kind_of_training(ref: ModelRef, tmp_path: Path) -> None:
    orders = [spied(ref, tmp_path / str(n), seed=1, lora=lora)[0] for n, lora in enumerate([LORA, None])]
    assert orders[0] == orders[1]


def test_the_loss_is_the_mean_over_completion_tokens_alone(ref: ModelRef, tmp_path: Path) -> None:
    _, ctx, _ = run(ref, tmp_path, updates=1, batch_size=len(PAIRS))
    lm = ctx.load(ref)
    examples = lm.chat.examples(PAIRS, system=None)
    parts = [(list(e.input_ids[: e.prompt_length]), list(e.input_ids[e.prompt_length :])) for e in examples]
    scores = continuation_log_probs(lm, [p for p, _ in parts], [[c] for _, c in parts], batch_size=4)
    expected = -scores.sum() / sum(len(c) for _, c in parts)
    assert tiny.sink(ctx).values("loss") == pytest.approx([float(expected)], rel=1e-5)


@pytest.mark.parametrize("lora", [LORA, None])
def test_micro_batches_make_the_same_updates_as_whole_batches(
    ref: ModelRef, tmp_path: Path, lora: LoraSettings | None
) -> None:
    # 12 examples in batches of 8: the last one is smaller, and rows have 1 to 5 completion tokens.
    options: dict[str, Any] = {"lora": lora, "batch_size": 8, "updates": 5}
    whole = weights(run(ref, tmp_path / "whole", **options)[0])
    parts = weights(run(ref, tmp_path / "parts", micro_batch_size=2, **options)[0])
    assert all(torch.allclose(weight, parts[name], atol=2e-5) for name, weight in whole.items())


def test_gradient_checkpointing_changes_nothing(ref: ModelRef, tmp_path: Path) -> None:
    plain = run(ref, tmp_path / "plain")[0]
    saving = run(ref, tmp_path / "saving", gradient_checkpointing=True)[0]
    assert file_bytes(plain) == file_bytes(saving)


@pytest.mark.parametrize(
    ("part", "layers", "learns"),
    [
        ("attention", None, [".self_attn."]),
        ("mlp", None, [".mlp."]),
        ("all", (1, 1), ["layers.1."]),
        ("attention", (0, 0), ["layers.0.self_attn."]),
    ],
)
@pytest.mark.parametrize("lora", [LORA, None])
def test_only_the_chosen_parts_learn(
    ref: ModelRef, tmp_path: Path, part: str, layers: Any, learns: list[str], lora: LoraSettings | None
) -> None:
    trained, ctx, _ = run(ref, tmp_path, lora=lora, train=part, layers=layers, weight_decay=0.1)
    after = weights(trained)
    if lora:
        assert after
        assert all(any(name in key for name in learns) for key in after)
        return
    before = ctx.load(ref).model.state_dict()
    changed = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    chosen = {name for name in after if any(part in name for part in learns)}
    assert changed == chosen


def test_all_means_embeddings_too_in_full_training(ref: ModelRef, tmp_path: Path) -> None:
    trained, ctx, _ = run(ref, tmp_path, lora=None)
    before = ctx.load(ref).model.state_dict()
    assert not any(torch.equal(weight, before[name]) for name, weight in weights(trained).items())


def test_a_student_learns(ref: ModelRef, tmp_path: Path) -> None:
    _, ctx, _ = run(ref, tmp_path, lora=None, updates=30, scheduler="constant", warmup=0)
    losses = tiny.sink(ctx).values("loss")
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("lora", [LORA, None])
def test_a_derived_reference_loads_as_the_model_that_was_trained(
    ref: ModelRef, tmp_path: Path, lora: LoraSettings | None
) -> None:
    trained, ctx, lm = run(ref, tmp_path, lora=lora)
    student = derived(ref, trained, ctx, lm.chat.digest(None))
    assert student.identity != ref.identity
    assert student.rendering == lm.chat.digest(None)
    ids = torch.tensor([lm.chat.prompt("Go on: 7", system=None)])
    loaded = ctx.load(student)
    with torch.no_grad():
        expected, got, base = lm.model(ids).logits, loaded.model(ids).logits, ctx.load(ref).model(ids).logits
    assert torch.allclose(expected, got, atol=1e-5)
    assert not torch.allclose(base, got, atol=1e-3)


def test_adapters_are_laid_on_one_another(ref: ModelRef, tmp_path: Path) -> None:
    first, ctx, lm = run(ref, tmp_path / "first")
    teacher = derived(ref, first, ctx, lm.chat.digest(None))
    second, ctx, lm = run(teacher, tmp_path / "second", seed=1)
    student = derived(teacher, second, ctx, lm.chat.digest(None))
    assert [path.parent.parent.name for path in student.adapters] == ["first", "second"]
    ids = torch.tensor([lm.chat.prompt("Go on: 7", system=None)])
    with torch.no_grad():
        assert torch.allclose(lm.model(ids).logits, ctx.load(student).model(ids).logits, atol=1e-5)


def test_identities_follow_contents(ref: ModelRef, tmp_path: Path) -> None:
    refs = []
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        trained, ctx, _ = run(ref, tmp_path / name, seed=seed)
        refs.append(derived(ref, trained, ctx, "digest"))
    assert refs[0].identity == refs[1].identity != refs[2].identity
    assert derived(ref, trained, ctx, "another").identity != refs[2].identity


def test_curves_and_progress_are_reported_under_plain_names(ref: ModelRef, tmp_path: Path) -> None:
    _, ctx, _ = run(ref, tmp_path, updates=5, log_every=2)
    sink = tiny.sink(ctx)
    assert {name for name, _, _ in sink.metrics} == {
        "loss",
        "grad_norm",
        "learning_rate",
        "mean_token_accuracy",
        "entropy",
    }
    assert [step for name, _, step in sink.metrics if name == "loss"] == [1, 2, 4]
    assert sink.bars == ["student"]


def test_training_says_nothing_by_itself_and_leaves_global_state_alone(
    ref: ModelRef, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import transformers

    ctx = tiny.context(tmp_path)
    lm = ctx.load(ref, fresh=True)
    examples = lm.chat.examples(PAIRS, system=None)
    verbosity = transformers.logging.get_verbosity()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
    capfd.readouterr()
    train(lm, examples, settings(checkpoint_every=2), ctx, lora=LORA, name="student")
    assert capfd.readouterr() == ("", "")
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert transformers.logging.get_verbosity() == verbosity


def test_epochs_become_updates(ref: ModelRef, tmp_path: Path) -> None:
    trained, _, _ = run(ref, tmp_path, updates=None, epochs=1.5, batch_size=5)
    assert trained.updates == 5  # 12 rows are 3 batches of at most 5; one and a half passes are 4.5 batches


def test_a_loss_that_breaks_stops_at_its_update(ref: ModelRef, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"loss became (nan|inf) at update [2-9] of 20.*lower learning_rate"):
        run(ref, tmp_path, lora=None, updates=20, learning_rate=1e12, max_grad_norm=0, warmup=0)


def test_rows_that_cannot_be_trained_on_are_named(ref: ModelRef, tmp_path: Path) -> None:
    ctx = tiny.context(tmp_path)
    lm = ctx.load(ref, fresh=True)
    good = lm.chat.example("a", "1", system=None)
    cases = [
        ([], {}, "no rows"),
        ([good, Example(good.input_ids, len(good.input_ids))], {}, "row 1 has no completion"),
        ([good, good, Example(good.input_ids * 20, 3)], {"max_length": 100}, r"row 2 .* max_length = 100"),
        ([Example(good.input_ids * 99, 3)], {"max_length": 10_000}, "row 0 .* the model reads 512"),
    ]
    for examples, changes, words in cases:
        with pytest.raises(DataError, match=words):
            train(lm, examples, settings(**changes), ctx, lora=LORA, name="student")


@pytest.mark.parametrize(
    ("lora", "changes", "words"),
    [
        (LORA, {"layers": (1, 2)}, "has 2 blocks, 0 to 1"),
        (None, {"layers": (5, 6)}, "has 2 blocks, 0 to 1"),
        (LoraSettings(targets=("q_prj",)), {}, "did you mean 'q_proj'"),
        (LoraSettings(targets=("up_proj",)), {"train": "attention"}, "none of up_proj lies within"),
        (LoraSettings(targets=("lm_head",)), {}, "no linear layer 'lm_head'"),
    ],
)
def test_parts_that_are_not_there_are_named(
    ref: ModelRef, tmp_path: Path, lora: LoraSettings | None, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        run(ref, tmp_path, lora=lora, **changes)


def test_named_targets_get_the_adapter(ref: ModelRef, tmp_path: Path) -> None:
    trained, _, _ = run(ref, tmp_path, lora=LoraSettings(targets=("q_proj", "v_proj"), rank=2, rank_stabilised=True))
    assert {name.split(".")[-3] for name in weights(trained)} == {"q_proj", "v_proj"}


def test_in_half_precision_the_adapter_stays_beside_the_weights(ref: ModelRef, tmp_path: Path) -> None:
    trained, ctx, _ = run(ref, tmp_path, learning_rate=1e-4)
    student = derived(ref, trained, ctx, "digest")
    half = ModelLoader(device="cpu", dtype="bfloat16")(student)
    assert half.model.dtype == torch.bfloat16
    small = [weight for name, weight in half.model.named_parameters() if "lora_B" in name]
    assert small
    assert all(weight.abs().sum() > 0 for weight in small)
    assert not hasattr(ctx.load(student).model, "peft_config"), "in float32 it is merged"


def test_weights_trained_from_half_precision_are_saved_in_it(ref: ModelRef, tmp_path: Path) -> None:
    ctx = replace(tiny.context(tmp_path), loader=ModelLoader(device="cpu", dtype="bfloat16"))
    lm = ctx.load(ref, fresh=True)
    trained = train(lm, lm.chat.examples(PAIRS, system=None), settings(), ctx, lora=None, name="student")
    assert {weight.dtype for weight in weights(trained).values()} == {torch.bfloat16}
