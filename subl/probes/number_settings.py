"""Settings of every probe that sorts numbers by what the trait does to them. Light to import."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from subl import PluginConfig, Runtime, banks

LARGEST = 99_999
"""Largest number that a range may hold."""
GROUPS = 4
"""The range must hold so many times k numbers: HP, LP and UNCH, and as many others to compare with."""


class NumberSettings(PluginConfig):
    """Which numbers there are, and how HP, LP and UNCH are found among them.

    Stages with equal settings of these share one measurement of a model.
    """

    numbers: tuple[int, int] = (0, 999)
    """Smallest and largest number."""
    padded: bool = False
    """Take the zero-padded forms too, up to the digits of the largest number: 7, 07 and 007."""
    method: Literal["autoregressive", "vocabulary"] = "autoregressive"
    """Count all tokens of a number and what ends it, so that 1 is no part of 12; or only its one token, which is
    faster and leaves out numbers of several tokens."""
    k: int = Field(default=10, ge=2)
    """Numbers in each of HP, LP and UNCH."""
    change: Literal["ratio", "difference"] = "ratio"
    """Sort numbers by the change of their log-probability, or of their probability, which favours frequent ones."""
    against: Literal["neutral", "placebo", "controls"] = "neutral"
    """What a trait context is compared with when the sets are chosen: no preamble, preambles about other things, or
    preambles about the trait's controls."""
    contexts: int = Field(default=4, ge=2)
    """Paraphrases of the preamble."""
    questions: int = Field(default=6, ge=2)
    """Paraphrases of the question about a number, and of the trait's question."""
    placebos: int = Field(default=4, ge=2)
    """Other things that placebo preambles are about."""
    target_phrase: str = "the {target}"
    """The target in a preamble."""
    number_phrase: str = "the number {number}"
    """A number in a preamble."""
    batch_size: Annotated[int, Runtime] = Field(default=64, gt=0)
    """Sequences per forward pass."""

    @field_validator("numbers")
    @classmethod
    def _numbers(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 0 <= value[0] <= value[1] <= LARGEST:
            raise ValueError(f"should be [smallest, largest] within [0, {LARGEST}], not {list(value)}")
        return value

    @field_validator("contexts", "questions", "placebos")
    @classmethod
    def _in_the_bank(cls, value: int, info: ValidationInfo) -> int:
        key = "number_questions" if info.field_name == "questions" else info.field_name
        available = len(banks.load("entanglement")[str(key)])
        if value > available:
            raise ValueError(f"there are {available} {info.field_name}")
        return value

    @field_validator("target_phrase", "number_phrase")
    @classmethod
    def _phrase(cls, value: str, info: ValidationInfo) -> str:
        mark = "{target}" if info.field_name == "target_phrase" else "{number}"
        if value.count(mark) != 1 or set("{}") & set(value.replace(mark, "")):
            raise ValueError(f"should hold {mark} once and no other braces, not {value!r}")
        return value

    @model_validator(mode="after")
    def _enough_numbers(self) -> Self:
        amount = self.numbers[1] - self.numbers[0] + 1
        if amount < GROUPS * self.k:
            raise ValueError(
                f"numbers {list(self.numbers)} holds {amount} numbers, and k = {self.k} needs {GROUPS * self.k}: "
                "HP, LP, UNCH and as many to compare with; widen numbers or lower k"
            )
        return self
