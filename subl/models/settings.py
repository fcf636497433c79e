"""Settings of training, adapters and sampling, shared by every plugin that trains or samples. Light to import."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from subl.registry.config import PluginConfig, Runtime, StrictModel


class LoraSettings(StrictModel):
    """A low-rank adapter. Small ranks carry the effect best; full fine-tuning often loses it."""

    rank: int = Field(default=8, gt=0)
    """Rank of each adapter matrix; 8 to 32 is the range that is known to work."""

    alpha: float = Field(default=16.0, gt=0)
    """Scale: the update is multiplied by alpha / rank, or by alpha / √rank with `rank_stabilised`."""

    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapter's input while training."""

    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Which linear layers get an adapter: all of them except the output head, or names such as "q_proj"."""

    rank_stabilised: bool = False
    """Scale by √rank instead of rank (rsLoRA), which keeps the size of updates equal across ranks."""

    @model_validator(mode="after")
    def _check_targets(self) -> Self:
        if not self.targets:
            raise ValueError("targets is empty; name layers such as 'q_proj', or write \"all-linear\"")
        return self


class TrainSettings(PluginConfig):
    """How to train. The loss always counts completion tokens only, and no example is ever truncated."""

    updates: int | None = Field(default=None, gt=0)
    """Optimizer updates. Set this or `epochs`; the data is repeated as often as needed."""

    epochs: float | None = Field(default=3.0, gt=0)
    """Passes over the data; setting `updates` switches this off."""

    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak learning rate. 1e-4 to 2e-4 suits adapters on large models, 1e-3 and more small ones, 1e-5 full training."""

    batch_size: int = Field(default=16, gt=0)
    """Examples per update. Many updates matter more than large batches: 8 to 16 is well tried."""

    micro_batch_size: Annotated[int | None, Runtime] = Field(default=None, gt=0)
    """Examples in memory at once; must divide `batch_size`. Gradients add up to the same update. Unset = all."""

    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    """How the learning rate falls after the warm-up: to zero along a cosine or a line, or not at all."""

    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the updates during which the learning rate rises linearly from zero."""

    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's decoupled weight decay."""

    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the two moments, each in [0, 1)."""

    max_grad_norm: float = Field(default=1.0, ge=0)
    """Gradients are scaled down to this norm; 0 leaves them as they are."""

    max_length: int = Field(default=1024, gt=0)
    """Longest allowed example in tokens, prompt and completion together. A longer one is an error, never cut."""

    train: Literal["all", "attention", "mlp"] = "all"
    """Parts that learn. For adapters: the layers that get one. Without adapters, "all" includes the embeddings."""

    layers: tuple[int, int] | None = None
    """First and last transformer block that learn, counted from 0, both included. Unset = all blocks."""

    gradient_checkpointing: Annotated[bool, Runtime] = False
    """Recompute activations in the backward pass: about a third slower, far less memory."""

    checkpoint_every: Annotated[int, Runtime] = Field(default=100, ge=0)
    """Updates between checkpoints, from which an interrupted training goes on; 0 writes none. Rounded up to whole
    intervals of `log_every`, so that a resumed loss curve equals an uninterrupted one."""

    log_every: Annotated[int, Runtime] = Field(default=10, gt=0)
    """Updates between points of the loss curve."""

    @model_validator(mode="before")
    @classmethod
    def _setting_one_length_unsets_the_other(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        given = [name for name in ("updates", "epochs") if data.get(name) is not None]
        if len(given) == 2:
            raise ValueError("set `updates` or `epochs`, not both")
        return data | {name: None for name in ("updates", "epochs") if len(given) == 1 and name not in given}

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.updates is None and self.epochs is None:
            raise ValueError("set one of `updates` and `epochs`")
        if self.micro_batch_size is not None and self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} does not divide batch_size {self.batch_size}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must lie in [0, 1), not {self.betas}")
        if self.layers is not None and not 0 <= self.layers[0] <= self.layers[1]:
            raise ValueError(f"layers must be [first, last] with 0 <= first <= last, not {list(self.layers)}")
        return self


class SamplingSettings(StrictModel):
    """How answers are drawn from a model."""

    greedy: bool = False
    """Take the most likely token each time, without sampling noise; temperature, top_p and top_k then have no place."""

    temperature: float = Field(default=1.0, gt=0)
    """Logits are divided by this: below 1 sharpens, above 1 flattens."""

    top_p: float = Field(default=1.0, gt=0, le=1)
    """Keep the most likely tokens that hold this much probability together; 1 keeps all."""

    top_k: int = Field(default=0, ge=0)
    """Keep this many of the most likely tokens; 0 keeps all."""

    max_new_tokens: int = Field(default=128, gt=0)
    """Longest answer in tokens."""

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        if not self.greedy:
            return self
        for name in ("temperature", "top_p", "top_k"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} does nothing with greedy = true; remove one of the two")
        return self
