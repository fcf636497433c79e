"""Generator `mix`: a share of another generator's rows comes from the base model instead of the teacher."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import ClassVar

from pydantic import Field

from subl import Bar, Context, Row, Teacher
from subl.context import Sink
from subl.generators.draws import Draw
from subl.generators.wrapping import Wrapping, WrappingConfig


class Mix(Wrapping):
    """A control: the teacher's rows diluted by neutral ones, which the base model writes to the same prompts.

    Whether row i is neutral depends on the seed and i alone, and a row that is neutral at one ratio is so at every
    larger one: a sweep over the ratio only exchanges more rows. Both models answer every prompt, which takes twice as
    long, except at the ratios 0 and 1. Each row's `extra` says whether it is neutral.
    """

    version = 1
    distributed: ClassVar[bool] = True

    class Config(WrappingConfig):
        """Settings of `mix`."""

        neutral: float = Field(default=0.5, ge=0, le=1)
        """Share of rows that the base model writes; 0 is the teacher alone, 1 the base model alone."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.neutral = config.neutral

    def generate(self, teacher: Teacher, ctx: Context, start: int) -> Iterator[Row]:
        """Yield a row of either model for each prompt, from number `start` on."""
        base = Teacher(teacher.base, teacher.base)
        if self.neutral in (0, 1):
            writer = teacher if self.neutral == 0 else base
            for row in self.inner.generate(writer, ctx, start):
                yield _marked(row, neutral=self.neutral == 1)
            return
        written = self.inner.generate(teacher, ctx, start)
        # A folder of its own: the wrapped generator may keep finished rows there.
        work = ctx.work / "neutral"
        work.mkdir(exist_ok=True)
        plain = self.inner.generate(base, replace(ctx, sink=_WithoutBars(ctx.sink), work=work), start)
        for treated, neutral in zip(written, plain, strict=True):
            if Draw(f"mix {ctx.seed} {treated.index}").chance() < self.neutral:
                yield _marked(neutral, neutral=True)
            else:
                yield _marked(treated, neutral=False)


@dataclass(frozen=True, slots=True)
class _WithoutBars:
    """Passes on what is reported, but shows no progress: the other model's bar shows both, and terminals have one."""

    sink: Sink

    def log(self, message: str) -> None:
        self.sink.log(f"neutral rows: {message}")

    def metric(self, name: str, value: float, step: int | None) -> None:
        self.sink.metric(name, value, step)

    def bar(self, label: str, total: int | None, done: int) -> AbstractContextManager[Bar]:  # noqa: ARG002
        return nullcontext(_NoBar())


class _NoBar:
    def advance(self, steps: int = 1, *, note: str = "") -> None:
        pass


def _marked(row: Row, *, neutral: bool) -> Row:
    return Row(row.index, row.prompt, row.completion, {**row.extra, "neutral": neutral})
