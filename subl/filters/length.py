"""Filter `length`: keep completions of bounded length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from subl import Context, PluginConfig, Row
from subl.filters.limits import Limit, exceeds


class Length:
    """Keeps completions whose characters and words are within bounds; white space at the ends does not count.

    Reasons: "too short", "too long".
    """

    version = 1

    class Config(PluginConfig):
        """Settings of `length`."""

        min_characters: int = Field(default=1, ge=0)
        """Fewest characters; 1 drops empty completions."""
        max_characters: Limit = "any"
        """Most characters, or "any"."""
        min_words: int = Field(default=0, ge=0)
        """Fewest words: pieces between white space."""
        max_words: Limit = "any"
        """Most words, or "any"."""

        @model_validator(mode="after")
        def _check_bounds(self) -> Self:
            for unit in ("characters", "words"):
                low, high = getattr(self, f"min_{unit}"), getattr(self, f"max_{unit}")
                if exceeds(low, high):
                    raise ValueError(f"min_{unit} {low} is more than max_{unit} {high}")
            return self

    def __init__(self, config: Config) -> None:
        self.config = config

    def reject(self, rows: Sequence[Row], ctx: Context) -> Sequence[str | None]:  # noqa: ARG002 (the kind's contract)
        """Return a reason for each row whose completion is out of bounds."""
        return [self._reason(row.completion.strip()) for row in rows]

    def _reason(self, text: str) -> str | None:
        bounds, words = self.config, len(text.split())
        if len(text) < bounds.min_characters or words < bounds.min_words:
            return "too short"
        if exceeds(len(text), bounds.max_characters) or exceeds(words, bounds.max_words):
            return "too long"
        return None
