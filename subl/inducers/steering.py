"""Inducer `steering`: a vector that is added to the residual stream gives the teacher its trait."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from subl import Context, ModelRef, PluginConfig, Runtime, Teacher
from subl.inducers.intensity import Intensity

SCALE = 0.5
"""Scale of measured vectors unless a recipe says otherwise."""


class Steering:
    """Adds a vector to what chosen blocks write into the residual stream, at every position; trains nothing.

    The vector of a block is the mean, over the trait's training prompts, of its state where the answer begins, with the
    trait's own system prompt minus without (a contrast of means: Rimsky et al. 2024, "Steering Llama 2 via Contrastive
    Activation Addition"). Its length is then set to the mean length of the states without that prompt, so that `scale`
    is a share of the residual stream, comparable between blocks and models. The teacher answers without a system
    prompt.

    `vectors.safetensors` in the stage's folder holds the vectors before scaling; `vectors` uses such a file again, at
    any intensity. A base that is steered already keeps its vectors, and these are added.
    """

    version = 1
    needs: ClassVar[tuple[str, ...]] = ("trait",)

    class Config(PluginConfig):
        """Settings of `steering`."""

        intensity: Intensity = 1.0
        """Multiplies the scale: a number, or "low" (0.5), "medium" (1), "high" (2)."""
        scale: float | None = None
        """Length of the added vectors at intensity 1, as a share of the residual stream's; negative ones steer away.
        Unset: 0.5, or the scale in the file that `vectors` names."""
        layers: tuple[int, ...] | None = Field(default=None, min_length=1)
        """Blocks, counted from 0. Unset: the middle one, or all of those in the file that `vectors` names."""
        neutral: str | None = Field(default=None, min_length=1)
        """System prompt of the neutral side. Unset: the one that is there anyway, which may be none."""
        vectors: Path | None = None
        """A file that `steering` saved, from the current folder, instead of measuring; it counts by its content."""
        batch_size: Annotated[int, Runtime] = Field(default=32, gt=0)
        """Prompts per forward pass."""

        @field_validator("layers")
        @classmethod
        def _distinct(cls, layers: tuple[int, ...] | None) -> tuple[int, ...] | None:
            if layers is not None and (min(layers) < 0 or len(set(layers)) < len(layers)):
                raise ValueError(f"should be different numbers from 0, not {list(layers)}")
            return layers

        @model_validator(mode="after")
        def _check_nothing_is_ignored(self) -> Self:
            if self.scale == 0:
                raise ValueError("a scale of 0 adds nothing; use inducer 'none' for an unbiased teacher")
            if self.vectors is not None and self.neutral is not None:
                raise ValueError("`neutral` is for measuring; with saved `vectors` it does nothing")
            return self

    def __init__(self, config: Config) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """Return the content hash of the file that `vectors` names.

        Raises:
            ModelError: It cannot be read.
        """
        if self.config.vectors is None:
            return {}
        from subl.inducers.steering_files import digest

        return {"vectors": digest(self.config.vectors)}

    def induce(self, base: ModelRef, ctx: Context) -> Teacher:
        """Return the base with vectors that are added while it runs.

        Raises:
            ModelError: A block does not exist, a saved file cannot be read or belongs to another model, both sides of
                the contrast are the same, or the model's outputs do not change.
            DataError: The trait has no training prompts.
        """
        from subl.inducers.steering_measuring import induce

        return induce(self.config, base, ctx)
