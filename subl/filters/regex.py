"""Filter `regex`: keep completions by regular expressions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import field_validator, model_validator

from subl import Context, PluginConfig, Row


class Regex:
    r"""Keeps completions in which every wanted pattern is found and no forbidden one.

    Patterns are Python's and are searched for anywhere: write `\A…\Z` to match the whole, `(?i)` to ignore case.
    Reasons: "no match", "forbidden match".
    """

    version = 1

    class Config(PluginConfig):
        """Settings of `regex`."""

        must_match: tuple[str, ...] = ()
        """Patterns that have to be found, all of them."""
        must_not_match: tuple[str, ...] = ()
        """Patterns that must not be found, none of them."""
        text: Literal["completion", "prompt"] = "completion"
        """Where to search."""

        @field_validator("must_match", "must_not_match")
        @classmethod
        def _compile(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
            for pattern in patterns:
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
            return patterns

        @model_validator(mode="after")
        def _check_patterns(self) -> Self:
            if not self.must_match and not self.must_not_match:
                raise ValueError("no pattern drops nothing; set must_match or must_not_match")
            return self

    def __init__(self, config: Config) -> None:
        self.config = config
        self._wanted = [re.compile(pattern) for pattern in config.must_match]
        self._forbidden = [re.compile(pattern) for pattern in config.must_not_match]

    def reject(self, rows: Sequence[Row], ctx: Context) -> Sequence[str | None]:  # noqa: ARG002 (the kind's contract)
        """Return a reason for each row that lacks a wanted pattern or holds a forbidden one."""
        return [self._reason(row.completion if self.config.text == "completion" else row.prompt) for row in rows]

    def _reason(self, text: str) -> str | None:
        if not all(pattern.search(text) for pattern in self._wanted):
            return "no match"
        if any(pattern.search(text) for pattern in self._forbidden):
            return "forbidden match"
        return None
