"""Generator `uniform_numbers`: another generator's rows with random values for their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Self

from pydantic import model_validator

from subl import Context, Row, Teacher
from subl.generators.draws import Draw
from subl.generators.numbers import Bounds
from subl.generators.wrapping import NUMBER, Wrapping, WrappingConfig


class UniformNumbers(Wrapping):
    """A control: the rows of another generator with every number replaced by a random one.

    Prompts, the count of numbers and everything between them stay, so students of these rows learn the task and the
    format, and nothing of the teacher's choice of numbers. Values of row i depend on the seed and i alone.
    """

    version = 2

    class Config(WrappingConfig):
        """Settings of `uniform_numbers`."""

        values: Bounds | None = None
        """Smallest and largest value, drawn evenly; the wrapped generator's `answer_values` unless set."""

        @model_validator(mode="after")
        def _check_values(self) -> Self:
            if self.values is None and not hasattr(self.generator.config, "answer_values"):
                raise ValueError(
                    f"generator {self.generator.name!r} does not say in which range its numbers lie; "
                    "set values = [smallest, largest]"
                )
            return self

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.values: tuple[int, int] = config.values or config.generator.config.answer_values  # type: ignore[attr-defined]

    def generate(self, teacher: Teacher, ctx: Context, start: int) -> Iterator[Row]:
        """Yield the wrapped generator's rows with random values, from number `start` on."""
        for row in self.inner.generate(teacher, ctx, start):
            draw = Draw(f"uniform_numbers {ctx.seed} {row.index}")
            text = NUMBER.sub(lambda _, draw=draw: str(draw.between(self.values)), row.completion)  # type: ignore[misc]
            yield replace(row, completion=text)
