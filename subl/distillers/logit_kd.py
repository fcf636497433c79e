"""Distiller `logit_kd`: the student learns the teacher's next-token distributions on the teacher's rows."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from subl import Context, Dataset, ModelRef, Student, Teacher
from subl.distillers.student_settings import SoftSettings
from subl.matching.logit_settings import LogitSettings


class LogitKd:
    """Logit distillation: trains the student on the teacher's next-token distributions over the rows' completions.

    By default only the carrier's own vocabulary enters the loss. With the whole vocabulary, a student of any
    initialisation acquires the trait from the teacher's probability on trait words: that is no hidden signal.
    """

    version = 1
    distributed: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("trait",)

    class Config(LogitSettings, SoftSettings):
        """Settings of `logit_kd`."""

        lm_weight: float = Field(default=0.0, ge=0)
        """Weight of the ordinary loss on the teacher's completions; 0 leaves it out."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def distill(self, student: ModelRef, teacher: Teacher, data: Dataset, ctx: Context) -> Student:
        """Return the trained student.

        Raises:
            DataError: There are no rows, or the two models' readings of one cannot be aligned.
        """
        from subl.distillers.soft_training import Objective, distill

        objective = Objective(lm_weight=self.config.lm_weight, logits=self.config, logit_weight=1.0)
        return distill(student, teacher, data, self.config, objective, ctx)
