"""Settings that every distiller of language models shares. Light to import."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from subl.models.settings import LoraSettings, TrainSettings


class StudentSettings(TrainSettings):
    """How the student is trained: the training itself, and what of the student learns."""

    method: Literal["lora", "full"] = "lora"
    """Train an adapter, or the model's own weights."""
    lora: LoraSettings = LoraSettings()
    """The adapter; only with method "lora"."""
    kept_checkpoints: int = Field(default=0, ge=0)
    """Earlier states of the adapter that stay with the student, evenly spaced over the updates, for probes such as
    `drift` that look at the course; only with method "lora"."""

    @model_validator(mode="after")
    def _adapter_only_with_lora(self) -> Self:
        # By value: settings that were read back from JSON have every field set.
        if self.method == "full" and self.lora != LoraSettings():
            raise ValueError('`lora` does nothing with method "full"; remove one of the two')
        return self

    @model_validator(mode="after")
    def _checkpoints_exist(self) -> Self:
        if self.kept_checkpoints and self.method == "full":
            raise ValueError('kept_checkpoints keeps adapters, and method "full" has none; set method = "lora"')
        if self.updates is not None and self.kept_checkpoints >= self.updates:
            raise ValueError(
                f"kept_checkpoints = {self.kept_checkpoints} are more than there are before the last of {self.updates} "
                "updates; lower it"
            )
        return self

    @property
    def adapter(self) -> LoraSettings | None:
        """Return the adapter to train, or None to train the weights."""
        return self.lora if self.method == "lora" else None


class SoftSettings(StudentSettings):
    """How a student is trained on what the teacher's network makes of the rows."""

    teacher_cache: bool = False
    """Keep what the teacher makes of the rows in the store, compactly, for all epochs, students and arms that need the
    same of it: a step then costs about as much as one of `sft`. Losses are as without it up to the rounding of what is
    kept: 0.4 % of a token's probability, 8e-6 in an attention map. The teacher reads the rows once, before the first
    training; the run says how much disk it takes, and `subl cache prune` removes it."""
