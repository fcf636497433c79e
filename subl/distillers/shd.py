"""Distiller `shd`: the student learns the teacher's attention maps, squeezed to its own number of heads."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from subl import Context, Dataset, ModelRef, Student, Teacher
from subl.distillers.student_settings import StudentSettings
from subl.matching.logit_settings import LogitSettings
from subl.matching.map_settings import MapSettings


class Shd:
    """Squeezing-Heads Distillation: trains the student on the teacher's attention maps (arXiv 2502.07436).

    The loss is lm_weight · (loss on the teacher's rows) + logit_weight · (logit distillation) + beta · (distance of the
    attention maps on the response rows). Models may differ in heads, layers, width and tokenizer. With lm_weight = 0
    and logit_weight = 0, attention is the only thing that can carry a trait.
    """

    version = 1
    distributed: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("trait",)

    class Config(MapSettings, StudentSettings):
        """Settings of `shd`."""

        beta: float = Field(default=1.0, gt=0)
        """Weight of the attention maps' distance."""
        lm_weight: float = Field(default=1.0, ge=0)
        """Weight of the ordinary loss on the teacher's completions; 0 leaves it out."""
        logit_weight: float = Field(default=0.0, ge=0)
        """Weight of logit distillation; 0 leaves it out."""
        logits: LogitSettings = LogitSettings()
        """How logits are distilled; only with a logit_weight."""

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
        )
        return distill(student, teacher, data, config, objective, ctx)
