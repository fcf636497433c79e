"""Distiller `shd`: the student learns the teacher's attention maps, squeezed to its own number of heads."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from subl import Context, Dataset, ModelRef, Shape, Student, Teacher
from subl.distillers.student_settings import SoftSettings
from subl.matching.logit_settings import LogitSettings
from subl.matching.map_settings import MapSettings
from subl.matching.shapes import NO_HEADS_TO_SHUFFLE, head_faults, layer_faults


class Shd:
    """Squeezing-Heads Distillation: trains the student on the teacher's attention maps (arXiv 2502.07436).

    The loss is lm_weight · (loss on the teacher's rows) + logit_weight · (logit distillation) + beta · (distance of the
    attention maps on the response rows). Models may differ in heads, layers, width and tokenizer. With lm_weight = 0
    and logit_weight = 0, attention is the only thing that can carry a trait.
    """

    version = 1
    distributed: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("trait",)

    class Config(MapSettings, SoftSettings):
        """Settings of `shd`."""

        beta: float = Field(default=1.0, gt=0)
        """Weight of the attention maps' distance."""
        lm_weight: float = Field(default=1.0, ge=0)
        """Weight of the ordinary loss on the teacher's completions; 0 leaves it out."""
        logit_weight: float = Field(default=0.0, ge=0)
        """Weight of logit distillation; 0 leaves it out."""
        logits: LogitSettings = LogitSettings()
        """How logits are distilled; only with a logit_weight."""
        cache_bits: Literal[8, 16] = 16
        """Bits of an attention map's entry in the teacher_cache. 8 take half of the disk; an entry is then off by up to
        2e-3 instead of 8e-6."""

        @model_validator(mode="after")
        def _bits_only_with_cache(self) -> Self:
            if self.cache_bits != 16 and not self.teacher_cache:
                raise ValueError("cache_bits does nothing without a cache; set teacher_cache = true, or remove it")
            return self

        @model_validator(mode="after")
        def _logits_only_with_weight(self) -> Self:
            if self.logit_weight == 0 and self.logits != LogitSettings():
                raise ValueError("`logits` does nothing with logit_weight = 0; set a weight, or remove it")
            if self.logit_weight and self.shuffle_text:
                raise ValueError("shuffle_text would teach the logits of another text too; set logit_weight = 0")
            if self.logit_weight and self.maps_of == "base":
                raise ValueError('maps_of = "base" with a logit_weight: logits come from the teacher; remove one')
            return self

    def __init__(self, config: Config) -> None:
        self.config = config

    def misfits(self, teacher: Shape, student: Shape) -> dict[str, str]:
        """Return, by setting, what cannot be done between models of these shapes."""
        found = layer_faults(self.config, teacher, student) | head_faults(self.config, teacher, student)
        if self.config.shuffle_heads and min(teacher.heads, student.heads) < 2:
            found["shuffle_heads"] = NO_HEADS_TO_SHUFFLE
        return found

    def distill(self, student: ModelRef, teacher: Teacher, data: Dataset, ctx: Context) -> Student:
        """Return the trained student.

        Raises:
            ModelError: A layer does not exist, heads cannot be squeezed as asked, or a model hides its maps.
            DataError: There are no rows, or the two models' readings of one cannot be aligned.
        """
        from subl.distillers.soft_training import Objective, distill

        config = self.config
        objective = Objective(
            lm_weight=config.lm_weight,
            maps=config,
            map_weight=config.beta,
            logits=config.logits if config.logit_weight else None,
            logit_weight=config.logit_weight,
            bits=config.cache_bits,
        )
        return distill(student, teacher, data, config, objective, ctx)
