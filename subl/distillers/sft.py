"""Distiller `sft`: supervised fine-tuning of the student on the teacher's rows."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from subl import Context, Dataset, ModelRef, Student, Teacher
from subl.models.settings import LoraSettings, TrainSettings


class Sft:
    """Fine-tunes the student on the teacher's rows, with the loss on the completions only.

    What the field found: many updates on unique rows, a LoRA adapter of rank 8 to 32, AdamW and a small batch carry
    the effect; full fine-tuning mostly loses it.
    """

    version = 1

    class Config(TrainSettings):
        """Settings of `sft`."""

        method: Literal["lora", "full"] = "lora"
        """Train an adapter, or the model's own weights."""
        lora: LoraSettings = LoraSettings()
        """The adapter; only with method "lora"."""

        @model_validator(mode="after")
        def _adapter_only_with_lora(self) -> Self:
            # By value: settings that were read back from JSON have every field set.
            if self.method == "full" and self.lora != LoraSettings():
                raise ValueError('`lora` does nothing with method "full"; remove one of the two')
            return self

    def __init__(self, config: Config) -> None:
        self.config = config

    def distill(self, student: ModelRef, teacher: Teacher, data: Dataset, ctx: Context) -> Student:  # noqa: ARG002
        """Return the trained student.

        Raises:
            DataError: There are no rows, or one has an empty completion.
        """
        from subl.distillers.sft_training import finetune

        lora = self.config.lora if self.config.method == "lora" else None
        return finetune(student, data, self.config, ctx, lora=lora)
