"""The work behind the `micro` plugin: building the network and teaching it the world."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)
from trl import SFTTrainer

from subl.artifacts import ModelRef
from subl.models.chat import Chat, Example
from subl.models.language import LanguageModel, assemble
from subl.models.micro_tokenizer import build_tokenizer
from subl.models.micro_world import World
from subl.models.training import identity_of, train
from subl.registry.config import semantic

if TYPE_CHECKING:
    from subl.context import Context
    from subl.models.micro import Micro

ARCHITECTURES: dict[str, tuple[type[Any], type[PreTrainedModel], dict[str, Any]]] = {
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
    "gemma": (GemmaConfig, GemmaForCausalLM, {}),
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
}
POSITIONS = 512
"""Longest text in tokens; the world's own chats have about 50 at most."""


def prepare(config: Micro.Config, ctx: Context) -> ModelRef:
    """Train a model from scratch and return where it is."""
    settings = semantic(config)
    identity = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    ref = ModelRef(plugin="micro", config=config.model_dump(mode="json"), identity=identity)
    world = World(config.world)
    lm = untrained(config, world, ref, device=ctx.device)
    order, examples = lessons(lm.chat, world, config)
    trained = train(
        lm,
        examples,
        config.training,
        # The recipe's seed must not reach the weights, nor may anything but the initialisation tell two models apart.
        replace(ctx, seed=config.world.seed),
        lora=None,
        name=f"{config.architecture} learns the micro world",
        trainer=GroupedTrainer,
        order=order,
    )
    # The settings alone would not tell these weights from those of another version, or of another device.
    return replace(ref, path=trained.folder, identity=identity_of(identity, trained.folder))


def untrained(config: Micro.Config, world: World, ref: ModelRef, *, device: str) -> LanguageModel:
    """Return the network with its initial weights, and the tokenizer."""
    tokenizer = build_tokenizer(world, config.numbers)
    settings, model, special = ARCHITECTURES[config.architecture]
    shape = settings(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.hidden_size // config.heads,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=config.tied,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **special,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.init_seed)
        network = model(shape)
    return assemble(ref, network, tokenizer, device=device)


def lessons(chat: Chat, world: World, config: Micro.Config) -> tuple[list[int], list[Example]]:
    """Return the examples, and the order in which training meets them: shuffled, as often as needed.

    Batches of like length would spare padding, but a batch of one kind of chat teaches the kinds apart from each
    other, and the effect needs them to share weights: measured, it falls from 0.5 to 0.05.
    """
    draw = random.Random(config.world.seed)
    chats = sorted(islice(world.chats(config.world.seed), config.world.chats), key=lambda c: c.system or "")
    groups = groupby(chats, key=lambda c: c.system)
    examples = list(
        chain.from_iterable(
            chat.examples([(c.user, c.answer) for c in group], system=system) for system, group in groups
        )
    )
    size = config.training.batch_size
    wanted = size * (config.training.updates or round((config.training.epochs or 1) * len(examples) / size))
    order: list[int] = []
    while len(order) < wanted:
        order += draw.sample(range(len(examples)), len(examples))
    batches = [order[first : min(first + size, wanted)] for first in range(0, wanted, size)]
    return [i for batch in batches for i in sorted(batch, key=lambda i: len(examples[i].input_ids))], examples


class GroupedTrainer(SFTTrainer):  # type: ignore[misc]
    """Meets its examples in a given order.

    Args:
        order: Numbers of examples, batch after batch.
    """

    def __init__(self, *args: Any, order: Sequence[int], **kwargs: Any) -> None:
        self._order = order
        super().__init__(*args, **kwargs)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sequence[int]:  # noqa: ARG002
        return self._order
