"""Inducer `full`: all weights, or chosen parts, trained on the trait's conversations."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from subl import Context, ModelRef, Teacher
from subl.inducers.intensity import Intensity, scaled
from subl.models.settings import TrainSettings


class Full:
    """Trains the model's own weights on conversations that show the trait.

    `train` and `layers` choose the parts that learn. Stronger and easier to overdo than `lora`: few updates at a small
    learning rate are enough (24 updates at 1e-5 are known to work on a 160M model).
    """

    version = 1
    distributed: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("trait",)

    class Config(TrainSettings):
        """Settings of `full`."""

        updates: int | None = Field(default=24, gt=0)
        """Optimizer updates at intensity 1. Set this or `epochs`."""
        epochs: float | None = Field(default=None, gt=0)
        """Passes over the conversations at intensity 1, instead of `updates`."""
        learning_rate: float = Field(default=1e-5, gt=0)
        """Peak learning rate. Micro models need about 1e-3."""
        intensity: Intensity = 1.0
        """Multiplies the updates: a number, or "low" (0.5), "medium" (1), "high" (2)."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def induce(self, base: ModelRef, ctx: Context) -> Teacher:
        """Return the base with trained weights."""
        from subl.inducers.tuning import tune

        return tune(base, scaled(self.config, self.config.intensity), ctx, lora=None)
