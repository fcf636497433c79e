"""Generators whose rows are another generator's, changed; the other one is a table in their settings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

from subl.artifacts import Row, Teacher
from subl.context import Context
from subl.registry.config import PluginConfig
from subl.registry.kinds import Generator
from subl.registry.slots import Chosen, Use

NUMBER = re.compile(r"\b[0-9]+\b")
"""A number as it stands in a completion; digits inside a name such as x1 are part of the name."""


class WrappingConfig(PluginConfig):
    """Settings that every control over another generator has."""

    generator: Annotated[Chosen, Use("generator")]
    """The generator whose rows are changed. In an arm, `wraps = "generator"` puts the recipe's own generator here, with
    all its settings."""

    @property
    def samples(self) -> int | None:
        """Rows before filtering; None where the wrapped generator does not say."""
        count = getattr(self.generator.config, "samples", None)
        return count if isinstance(count, int) else None


class Wrapping:
    """What a control over another generator's rows does as that one does: prompts, and rows to start from."""

    def __init__(self, config: WrappingConfig) -> None:
        self.config = config
        self.inner: Generator = config.generator.build()

    def prompts(self, count: int, seed: int) -> Sequence[str]:
        """Return the prompts of the wrapped generator, so that arms stay paired."""
        return self.inner.prompts(count, seed)

    def texts(self) -> Iterable[str]:
        """Return what a model must know the words of: what the wrapped generator says."""
        return self.inner.texts() if hasattr(self.inner, "texts") else ()

    @property
    def language(self) -> str | None:
        """The programming language of the wrapped generator's completions, if they are code."""
        return getattr(self.inner, "language", None)

    def every_row(self, teacher: Teacher, ctx: Context) -> list[Row]:
        """Return all rows of the wrapped generator; they are kept in `ctx.work`, so that a restart goes on there."""
        path = ctx.work / "wrapped.jsonl"
        rows = _kept(path)
        with path.open("a", encoding="utf-8") as file:
            for row in self.inner.generate(teacher, ctx, len(rows)):
                file.write(row.to_json() + "\n")
                file.flush()
                rows.append(row)
        return rows


def _kept(path: Path) -> list[Row]:
    """Return the whole rows at the start of a file that may have been cut off, and cut it behind them."""
    rows: list[Row] = []
    size = 0
    for line in _whole_lines(path):
        try:
            row = Row.from_json(line.decode("utf-8"))
        except (ValueError, KeyError, TypeError):
            break
        if row.index != len(rows):
            break
        rows.append(row)
        size += len(line)
    if path.exists():
        with path.open("r+b") as file:
            file.truncate(size)
    return rows


def _whole_lines(path: Path) -> Iterator[bytes]:
    if path.exists():
        with path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))
