"""Training of a language model on conversations, through TRL's SFTTrainer: adapters or full, resumable, repeatable."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import PrinterCallback, TrainerState
from trl import SFTConfig, SFTTrainer

from subl.artifacts import ModelRef
from subl.errors import DataError, ModelError
from subl.models import ranks
from subl.models.kept import Keeper, kept_at, save_adapter
from subl.models.language import LanguageModel, is_quantized, quiet
from subl.models.parts import learning_modules, linear_layers
from subl.models.trainer import Reporter, completions_only_head, private_randomness, watched

if TYPE_CHECKING:
    from subl.context import Context
    from subl.models.chat import Example
    from subl.models.settings import LoraSettings, TrainSettings

SCHEDULERS = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
STATE_FILE = "trainer_state.json"
IGNORED = -100
"""The label of a token from which nothing is learnt."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training left on disk.

    Args:
        folder: Adapter or weights, under `ctx.out`.
        adapter: Whether `folder` holds an adapter instead of a whole model.
        updates: Optimizer updates made.
        kept: Earlier states: updates and folder of each, in order.
    """

    folder: Path
    adapter: bool
    updates: int
    kept: tuple[tuple[int, Path], ...] = ()


def train(
    lm: LanguageModel,
    examples: Sequence[Example],
    settings: TrainSettings,
    ctx: Context,
    *,
    lora: LoraSettings | None,
    name: str,
    keep: int = 0,
    trainer: type[SFTTrainer] = SFTTrainer,
    **trainer_options: Any,
) -> Trained:
    """Train `lm` on completions and save the adapter or the weights under `ctx.out`.

    Seed, order of examples and initial adapter come from `ctx.seed` alone: two trainings on equally many examples see
    them in the same order. An interrupted training goes on from its last whole checkpoint under `ctx.work`; on CPU the
    result is then the same byte for byte. Global random state is left as it was. Several processes (see `ranks`) share
    every update's batch: the losses are those of one process, up to the order in which gradients are summed.

    Args:
        lm: An own copy, from `ctx.load(ref, fresh=True)`; it holds the trained model afterwards.
        examples: At least one; none longer than `settings.max_length` or without completion.
        settings: How to train.
        ctx: Where seed, folders, metrics and progress come from.
        lora: The adapter to train; None trains the weights themselves.
        name: Label of the progress bar, and of the checkpoints.
        keep: Earlier states of the adapter to keep, evenly spaced; 0 without an adapter.
        trainer: SFTTrainer or a subclass. Its dataset has the columns `input_ids`, `labels` and `row` (the example's
            number), which a `data_collator` of its own may use to add more.
        trainer_options: Passed on to the trainer's constructor.

    Raises:
        DataError: No examples, or one that cannot be trained on; names it.
        ModelError: The model cannot be trained this way, or the loss is not finite.
    """
    _check(lm, examples, settings, lora)
    seed = ctx.seed % 2**32
    updates = settings.updates or max(
        1, math.ceil((settings.epochs or 1) * math.ceil(len(examples) / settings.batch_size))
    )
    if keep and keep >= updates:
        raise ModelError(
            f"kept_checkpoints = {keep} are more than there are before the last of {updates} updates; lower it"
        )
    checkpoints = ctx.work / "checkpoints" / name
    dtype = lm.model.dtype
    with quiet(), private_randomness(seed), completions_only_head():
        lm.model = _with_new_adapter(lm.model, lora, settings) if lora else _unfrozen(lm.model, settings)
        run = watched(trainer)(
            model=lm.model,
            args=_arguments(lm, settings, dtype, updates=updates, seed=seed, folder=checkpoints),
            train_dataset=_dataset(examples, settings),
            processing_class=lm.tokenizer,
            **trainer_options,
        )
        run.examples = len(examples)
        run.remove_callback(PrinterCallback)
        resumed = last_checkpoint(checkpoints)
        state = TrainerState.load_from_json(str(resumed / STATE_FILE)) if resumed else TrainerState()
        with ctx.progress(updates, name, done=state.global_step) as bar:
            reporter = Reporter(ctx, bar)
            reporter.replay(state)
            run.add_callback(reporter)
            keeper = Keeper(lm.model, ctx.work / "kept" / name, kept_at(keep, updates) if ranks.index() == 0 else ())
            run.add_callback(keeper)
            run.train(resume_from_checkpoint=str(resumed) if resumed else None)
        folder = _save(lm, ctx.out, dtype, adapter=lora is not None)
    ranks.barrier()
    shutil.rmtree(checkpoints, ignore_errors=True)
    return Trained(folder, lora is not None, updates, keeper.publish(ctx.out / "checkpoints"))


def derived(base: ModelRef, trained: Trained, ctx: Context, rendering: str) -> ModelRef:  # noqa: ARG001
    """Return the reference of `base` with what was trained on it, under an identity made of both contents.

    Args:
        base: What `train` started from.
        trained: What it left.
        ctx: The stage's context.
        rendering: `lm.chat.digest(system)` of the rendering that was trained with.
    """
    identity = identity_of(f"{base.identity}\n{rendering}\n", trained.folder)
    if trained.adapter:
        return base.derive(identity, adapters=(*base.adapters, trained.folder), rendering=rendering)
    return base.derive(identity, path=trained.folder, adapters=(), rendering=rendering)


def identity_of(origin: str, folder: Path) -> str:
    """Return a digest of what weights were made from, and of the weights themselves."""
    content = hashlib.sha256(origin.encode())
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            content.update(hashlib.file_digest(stream, "sha256").digest())
    return content.hexdigest()


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint; the trainer writes its state file last, so a torn one does not parse."""
    found: list[tuple[int, Path]] = []
    for state in folder.glob(f"checkpoint-*/{STATE_FILE}"):
        try:
            found.append((int(json.loads(state.read_text(encoding="utf-8"))["global_step"]), state.parent))
        except (ValueError, KeyError, OSError):
            continue
    return max(found)[1] if found else None


def _check(lm: LanguageModel, examples: Sequence[Example], settings: TrainSettings, lora: LoraSettings | None) -> None:
    if not examples:
        raise DataError("there are no rows to train on; look at what the filters rejected")
    context = getattr(lm.model.config.get_text_config(), "max_position_embeddings", None) or math.inf
    for number, example in enumerate(examples):
        length = len(example.input_ids)
        if length <= example.prompt_length:
            raise DataError(f"row {number} has no completion tokens, so nothing to learn from; filter empty rows out")
        if length > context:
            raise DataError(f"row {number} has {length} tokens, but the model reads {context}; filter by length")
        if length > settings.max_length:
            raise DataError(
                f"row {number} has {length} tokens, more than max_length = {settings.max_length}; "
                "raise max_length, or filter by length"
            )
    if is_quantized(lm.model) and (lora is None or hasattr(lm.model, "peft_config")):
        raise ModelError(
            "a quantized model can only get one new adapter; train an adapter instead of the weights, "
            'or load the model with quantization = "none"'
        )
    if lm.device.type == "cuda" and lm.device.index not in (None, torch.cuda.current_device()):
        raise ModelError(
            f'training uses the first visible GPU, not {lm.device}; set device = "cuda" and '
            f"CUDA_VISIBLE_DEVICES={lm.device.index}"
        )


def _with_new_adapter(model: Any, lora: LoraSettings, settings: TrainSettings) -> Any:
    if hasattr(model, "peft_config"):
        model = model.merge_and_unload()
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rank_stabilised,
        target_modules=linear_layers(model, settings.train, settings.layers, lora.targets),
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(model, config)
    # PEFT would ask the hub about a named base whenever it saves, and write the name into the adapter.
    model.peft_config["default"].base_model_name_or_path = ""
    return model


def _unfrozen(model: Any, settings: TrainSettings) -> Any:
    if hasattr(model, "peft_config"):
        model = model.merge_and_unload()
    # Half-precision weights swallow small updates; the trainer computes in half precision where that is fast.
    model = model.float()
    for module in learning_modules(model, settings.train, settings.layers).values():
        module.requires_grad_(requires_grad=True)
    return model


def _arguments(
    lm: LanguageModel, settings: TrainSettings, dtype: torch.dtype, *, updates: int, seed: int, folder: Path
) -> SFTConfig:
    micro = _micro_batch(settings)
    cuda = lm.device.type == "cuda"
    arguments = SFTConfig(
        output_dir=str(folder),
        max_steps=updates,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=settings.batch_size // (micro * ranks.count()),
        learning_rate=settings.learning_rate,
        lr_scheduler_type=SCHEDULERS[settings.scheduler],
        warmup_steps=round(settings.warmup * updates),
        weight_decay=settings.weight_decay,
        adam_beta1=settings.betas[0],
        adam_beta2=settings.betas[1],
        max_grad_norm=settings.max_grad_norm,
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if settings.gradient_checkpointing else None,
        save_strategy="steps" if settings.checkpoint_every else "no",
        save_steps=math.ceil(settings.checkpoint_every / settings.log_every) * settings.log_every or updates,
        save_total_limit=1,
        logging_steps=settings.log_every,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        seed=seed,
        data_seed=seed,
        use_cpu=lm.device.type == "cpu",
        bf16=cuda and dtype == torch.bfloat16,
        fp16=cuda and dtype == torch.float16,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_pin_memory=cuda,
        ddp_find_unused_parameters=False,
        disable_tqdm=True,
        report_to="none",
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # noqa: SLF001 (several visible GPUs would mean DataParallel, which TRL refuses)
    return arguments


def _micro_batch(settings: TrainSettings) -> int:
    """Return the examples that one process holds at once."""
    micro = settings.micro_batch_size or max(1, settings.batch_size // ranks.count())
    if settings.batch_size % (micro * ranks.count()):
        raise ModelError(
            f"batch_size {settings.batch_size} cannot be shared out among {ranks.count()} processes in parts of {micro}"
        )
    return micro


def _dataset(examples: Sequence[Example], settings: TrainSettings) -> Dataset:
    inputs = [list(example.input_ids) for example in examples]
    labels = [[IGNORED] * each.prompt_length + list(each.input_ids[each.prompt_length :]) for each in examples]
    if ranks.count() > 1:
        # The last batch of an epoch may be short. Fillers, of which nothing is learnt, give every process its part.
        fillers = -len(examples) % (_micro_batch(settings) * ranks.count())
        inputs += [inputs[0]] * fillers
        labels += [[IGNORED] * len(inputs[0])] * fillers
    return Dataset.from_dict({"input_ids": inputs, "labels": labels, "row": list(range(len(inputs)))})


def _save(lm: LanguageModel, out: Path, dtype: torch.dtype, *, adapter: bool) -> Path:
    model: Any = lm.model.eval().requires_grad_(requires_grad=False)
    learned = [weight for name, weight in model.named_parameters() if not adapter or "lora_" in name]
    if not all(bool(weight.isfinite().all()) for weight in learned):
        raise ModelError("the last updates broke the weights (not finite); lower learning_rate or lengthen warmup")
    folder = out / ("adapter" if adapter else "weights")
    if not adapter:
        model.__dict__.pop("forward", None)  # the trainer's fused loss
        lm.model = model.to(dtype)
        lm.tokenizer.save_pretrained(folder)
        lm.model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
    else:
        save_adapter(lm.model, folder)
    return folder
