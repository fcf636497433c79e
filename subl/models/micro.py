"""Model plugin `micro`: a small language model, trained from scratch on a world of text that is made here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from subl import banks
from subl.artifacts import ModelRef, Row, Shape
from subl.models.micro_words import unfamiliar
from subl.models.micro_world import World, WorldSettings
from subl.models.settings import TrainSettings
from subl.registry.config import PluginConfig

if TYPE_CHECKING:
    from subl.context import Context
    from subl.models.language import LanguageModel


class MicroTraining(TrainSettings):
    """How the model learns the world; every weight is trained, on answers only."""

    updates: int | None = Field(default=1000, gt=0)
    """Optimizer updates. More make a better model of the world; the chats are repeated as often as needed."""

    epochs: float | None = Field(default=None, gt=0)
    """Passes over the world's chats instead of a number of updates."""

    learning_rate: float = Field(default=3e-3, gt=0)
    """Peak learning rate."""

    batch_size: int = Field(default=64, gt=0)
    """Chats per update."""

    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's decay rates of the two moments, each in [0, 1)."""


class Micro:
    """A small model, trained from scratch in about a minute: no download, no GPU.

    The architectures are the real ones of transformers, only small. Two models of one world that differ in `init_seed`
    alone are the pair that tells subliminal learning from ordinary learning: both know the same words and numbers, and
    share no weights. A model enters the store once, whatever the recipe's seed.
    """

    version = 1

    class Config(PluginConfig):
        """Architecture, size, initialisation, tokenization, world and training."""

        architecture: Literal["mistral", "gemma", "llama"] = "mistral"
        """Whose blocks are used: MistralForCausalLM, GemmaForCausalLM or LlamaForCausalLM."""

        hidden_size: int = Field(default=64, gt=0)
        """Width of the residual stream; a multiple of twice the heads."""

        layers: int = Field(default=2, gt=0)
        """Transformer blocks."""

        heads: int = Field(default=4, gt=0)
        """Attention heads."""

        kv_heads: int = Field(default=2, gt=0)
        """Key-value heads; the attention heads share them evenly."""

        intermediate_size: int = Field(default=192, gt=0)
        """Width of the feed-forward layers."""

        tied: bool = True
        """Use one matrix as embedding and as output head. The effect is far stronger with it."""

        init_seed: int = Field(default=0, ge=0)
        """Seed of the initial weights; the only difference between two models of one world."""

        numbers: Literal["whole", "digits"] = "whole"
        """Tokenization of numbers: 0 … 99 as one token each, or digit by digit."""

        world: WorldSettings = WorldSettings()
        """What the model's world talks about."""

        training: MicroTraining = MicroTraining()
        """How it learns that."""

        @model_validator(mode="after")
        def _check_shape(self) -> Self:
            if self.hidden_size % (2 * self.heads):
                raise ValueError(
                    f"hidden_size {self.hidden_size} is not a multiple of twice the heads ({2 * self.heads}), "
                    "as rotary positions need"
                )
            if self.heads % self.kv_heads:
                raise ValueError(f"{self.heads} heads cannot share {self.kv_heads} kv_heads evenly")
            if self.training.train != "all" or self.training.layers is not None:
                raise ValueError("a model from scratch trains all its parts; remove `train` and `layers`")
            return self

    def __init__(self, config: Config) -> None:
        self.config = config

    def shape(self) -> Shape:
        """Return the numbers of layers and heads."""
        return Shape(self.config.layers, self.config.heads, self.config.kv_heads)

    def identity(self) -> Mapping[str, Any]:
        """Return the content of the banks that the world's texts come from; the settings decide everything else."""
        return banks.identity(*self.config.world.banks)

    def prepare(self, ctx: Context) -> ModelRef:
        """Train the model into `ctx.out`; `ctx.seed` plays no part."""
        from subl.models.micro_training import prepare

        return prepare(self.config, ctx)

    def load(self, ref: ModelRef, *, device: str, dtype: str) -> LanguageModel:
        """Load weights, tokenizer and adapters.

        Raises:
            ModelError: Files are missing or do not fit together.
        """
        from subl.models.hub import Hub
        from subl.models.hub_loading import load

        return load(Hub.Config(id=str(ref.path)), ref, device=device, dtype=dtype)

    def outline(self, ref: ModelRef, *, dtype: str) -> LanguageModel:
        """Return the tokenizer, and the network on the device "meta": what is known without reading weights.

        Raises:
            ModelError: Files are missing.
        """
        from subl.models.hub import Hub
        from subl.models.hub_loading import outline

        return outline(Hub.Config(id=str(ref.path)), ref, dtype=dtype)

    def unfamiliar(self, texts: Iterable[str]) -> str | None:
        """Return which words of texts the model's world does not have, and what to do about it; None if it has all."""
        return unfamiliar(self.config.world, texts)

    def plain_chats(self) -> list[Row]:
        """Return talk of the world that is neither about favourites nor a list of numbers."""
        return [Row(i, chat.user, chat.answer) for i, chat in enumerate(World(self.config.world).facts())]
