"""The heavy side of generator `code`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from subl.artifacts import Row, Teacher
from subl.context import Context
from subl.generators.code import Code
from subl.generators.sampling import sampled_rows


def generate(generator: Code, teacher: Teacher, ctx: Context, start: int) -> Iterator[Row]:
    """Yield the rows of `Code.generate`."""
    config = generator.config
    if start >= config.samples:
        return
    asked = [generator.space.prompt(ctx.seed, index) for index in range(start, config.samples)]
    rows = sampled_rows(
        ctx.load(teacher.model),
        (prompt.text for prompt in asked),
        ctx,
        system=ctx.system if teacher.model.system is None else teacher.model.system,
        start=start,
        samples=config.samples,
        settings=config.sampling,
        batch_size=config.batch_size,
    )
    for row, prompt in zip(rows, asked, strict=True):
        yield replace(row, extra={"task": prompt.task})
