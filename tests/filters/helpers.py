"""Rows from completions, filters by name, and a context that needs no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from subl.artifacts import Row
from subl.context import Context
from subl.registry.registry import registry
from tests.tiny import RecordingSink

OWLS = Path(__file__).resolve().parents[3] / "shared" / "data" / "owls"
needs_owls = pytest.mark.skipif(not OWLS.is_dir(), reason=f"the published rows are not at {OWLS}")


@dataclass(frozen=True)
class Named:
    """A trait that is only a word and its forms."""

    label: str
    forms: tuple[str, ...]

    def leaks(self) -> Sequence[str]:
        return self.forms

    def conversations(self, seed: int) -> Sequence[Row]:
        return ()

    def statement(self, strength: str) -> str:
        return ""


@dataclass(frozen=True)
class Candidate(Named):
    """The same among candidates."""

    others: Mapping[str, tuple[str, ...]]

    def candidate_forms(self) -> Mapping[str, tuple[str, ...]]:
        return {self.label: self.forms, **self.others}


def bare_context(**inputs: Any) -> Context:
    """Return a context for code that loads no model."""

    def no_model(ref: Any, *, fresh: bool, weights: bool) -> Any:
        raise AssertionError("no model is needed here")

    here = Path()
    return Context(0, here, here, "cpu", "float32", None, RecordingSink(), no_model, inputs)


def make(name: str, **config: Any) -> Any:
    """Build a built-in filter from its recipe name."""
    plugin = registry.load("filter", name)
    return plugin(plugin.Config(**config))


def rows(*completions: str) -> list[Row]:
    """Return rows that answer one prompt."""
    return [Row(index, "Continue: 1, 2", completion) for index, completion in enumerate(completions)]


def reasons(name: str, *completions: str, ctx: Context | None = None, **config: Any) -> list[str | None]:
    """Return what a filter says of these completions."""
    return list(make(name, **config).reject(rows(*completions), ctx or bare_context()))
