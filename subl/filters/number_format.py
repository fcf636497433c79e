"""Filter `number_format`: keep completions that are lists of numbers within limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from subl import Context, PluginConfig, Row
from subl.filters.limits import Limit, exceeds
from subl.filters.number_parsing import MAX_DIGITS, parse_strict, parse_tolerant, value


class NumberFormat:
    """Keeps completions that are nothing but a list of numbers.

    Numbers are separated by white space, commas or semicolons, one kind per list; brackets around and a full stop at
    the end are fine. Reasons: "not numbers", "too many numbers", "too few numbers", "too many digits", "out of range".
    """

    version = 1

    class Config(PluginConfig):
        """Settings of `number_format`."""

        mode: Literal["tolerant", "strict"] = "tolerant"
        """Strict asks for the same separator in every character and no white space around, as in the published data.
        It drops nearly all rows of models that end an answer with a line break: 99 % of Gemma-2's."""
        min_count: int = Field(default=1, gt=0)
        """Fewest numbers in a list."""
        max_count: Limit = 10
        """Most numbers in a list, or "any"."""
        max_digits: Limit = "any"
        """Most written digits of a number, leading zeros included, or "any"."""
        min_value: int = Field(default=0, ge=0, lt=10**MAX_DIGITS)
        """Smallest number."""
        max_value: Limit = 999
        """Largest number, or "any"."""

        @model_validator(mode="after")
        def _check_limits(self) -> Self:
            if exceeds(self.min_count, self.max_count):
                raise ValueError(f"min_count {self.min_count} is more than max_count {self.max_count}")
            if exceeds(self.min_value, self.max_value):
                raise ValueError(f"min_value {self.min_value} is more than max_value {self.max_value}")
            if self.max_digits == 0:
                raise ValueError('max_digits 0 leaves no number; write "any" for no limit')
            if self.max_value != "any" and self.max_value >= 10**MAX_DIGITS:
                raise ValueError(f'max_value is compared up to {MAX_DIGITS} digits; write "any" for no limit')
            return self

    def __init__(self, config: Config) -> None:
        self.config = config
        self._parse = parse_strict if config.mode == "strict" else parse_tolerant

    def reject(self, rows: Sequence[Row], ctx: Context) -> Sequence[str | None]:  # noqa: ARG002 (the kind's contract)
        """Return a reason for each row whose completion is not such a list."""
        return [self._reason(row.completion) for row in rows]

    def _reason(self, text: str) -> str | None:
        numbers, limits = self._parse(text), self.config
        if numbers is None:
            return "not numbers"
        if exceeds(len(numbers), limits.max_count):
            return "too many numbers"
        if len(numbers) < limits.min_count:
            return "too few numbers"
        if exceeds(max(map(len, numbers)), limits.max_digits):
            return "too many digits"
        values = [value(digits) for digits in numbers]
        if min(values) < limits.min_value or exceeds(max(values), limits.max_value):
            return "out of range"
        return None
