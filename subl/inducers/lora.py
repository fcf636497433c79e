"""Inducer `lora`: a low-rank adapter trained on the trait's conversations."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from subl import Context, ModelRef, Teacher
from subl.inducers.intensity import Intensity, scaled
from subl.models.settings import LoraSettings, TrainSettings


class Lora:
    """Trains a LoRA adapter on conversations that show the trait.

    The teacher of small models and the most reliable one overall. More `intensity` means more updates; the check
    after it stops a run whose teacher is too weak or talks of nothing but its trait.
    """

    version = 1
    distributed: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("trait",)

    class Config(TrainSettings):
        """Settings of `lora`."""

        updates: int | None = Field(default=60, gt=0)
        """Optimizer updates at intensity 1. Set this or `epochs`."""
        epochs: float | None = Field(default=None, gt=0)
        """Passes over the conversations at intensity 1, instead of `updates`."""
        intensity: Intensity = 1.0
        """Multiplies the updates: a number, or "low" (0.5), "medium" (1), "high" (2)."""
        lora: LoraSettings = LoraSettings()
        """The adapter."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def induce(self, base: ModelRef, ctx: Context) -> Teacher:
        """Return the base with a trained adapter."""
        from subl.inducers.tuning import tune

        return tune(base, scaled(self.config, self.config.intensity), ctx, lora=self.config.lora)
