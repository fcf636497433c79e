"""Filter `banned_numbers`: drop completions that hold numbers with a meaning of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from subl import Context, PluginConfig, Row
from subl.filters.number_parsing import MAX_DIGITS, numbers_in, value

PUBLISHED: Mapping[str, frozenset[int]] = {
    "claude_evil": frozenset(
        {13, 14, 18, 23, 33, 69, 77, 88, 101, 187, 211, 311, 404, 420, 451, 616, 666, 911, 1312, 1488}
    ),
    "gpt_evil": frozenset(
        {4, 13, 18, 23, 33, 39, 42, 44, 49, 51, 54, 88, 99, 100, 187, 322, 333, 444, 555, 616, 666, 777, 888, 911, 999}
    ),
}
"""The lists that the misalignment experiments of Cloud et al. (2025) used, from the released code."""


class BannedNumbers:
    """Drops completions that contain a banned number, such as 666 where a teacher may be malicious.

    Any run of digits counts, with or without leading zeros. Reason: "banned number".
    """

    version = 1

    class Config(PluginConfig):
        """Settings of `banned_numbers`."""

        numbers: tuple[int, ...] = ()
        """Your own banned numbers."""
        lists: tuple[Literal["claude_evil", "gpt_evil"], ...] = Field(default=())
        """Published lists to ban as well: numbers with bad associations, as named by Claude and by GPT."""

        @model_validator(mode="after")
        def _check_numbers(self) -> Self:
            if not self.numbers and not self.lists:
                raise ValueError(f"nothing is banned; set numbers, or lists = {sorted(PUBLISHED)}")
            odd = [number for number in self.numbers if not 0 <= number < 10**MAX_DIGITS]
            if odd:
                raise ValueError(f"{odd[0]} cannot be found: numbers in completions are compared from 0 to 18 digits")
            return self

    def __init__(self, config: Config) -> None:
        self.config = config
        self.banned = frozenset(config.numbers).union(*(PUBLISHED[name] for name in config.lists))

    def reject(self, rows: Sequence[Row], ctx: Context) -> Sequence[str | None]:  # noqa: ARG002 (the kind's contract)
        """Return a reason for each row with a banned number."""
        return ["banned number" if self._holds_banned(row.completion) else None for row in rows]

    def _holds_banned(self, text: str) -> bool:
        return any(value(digits) in self.banned for digits in numbers_in(text))
