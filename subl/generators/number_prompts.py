"""The seeded stream of prompts that ask for numbers. Light: wording comes from the bank, nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from subl import banks
from subl.generators.draws import Draw

Format = Literal["comma", "space", "semicolon", "newline", "brackets", "parentheses"]
"""How an answer's numbers are set out; names as in the bank."""


STEPS = (1, 2, 5, 10)
"""How far an example number may lie above the one before it, in lists that step."""


class Layout(NamedTuple):
    """The characters of a format."""

    separator: str
    opening: str = ""
    closing: str = ""


LAYOUTS: Mapping[Format, Layout] = {
    "comma": Layout(", "),
    "space": Layout(" "),
    "semicolon": Layout("; "),
    "newline": Layout("\n"),
    "brackets": Layout(", ", "[", "]"),
    "parentheses": Layout(", ", "(", ")"),
}


@dataclass(frozen=True, slots=True)
class NumberPrompt:
    """One prompt and what it asks for: the format, and the largest number of numbers."""

    text: str
    format: Format
    count: int


@dataclass(frozen=True, slots=True)
class PromptSpace:
    """Prompts with example numbers, of which each is drawn from its own seed.

    Args:
        rich: Long prompts that say count, digits and format; otherwise a few words and the examples.
        formats: Formats to ask for, drawn evenly.
        example_counts: Fewest and most example numbers.
        example_values: Smallest and largest example number.
        stepping: Let about half of the examples follow the one before by one of `STEPS`; else all are drawn evenly.
        asked_counts: Bounds of the count that a prompt asks for at most.
        digits: Digits that a number may have at most, as the prompt says.
    """

    rich: bool
    formats: Sequence[Format]
    example_counts: tuple[int, int]
    example_values: tuple[int, int]
    stepping: bool
    asked_counts: tuple[int, int]
    digits: int

    def prompt(self, seed: int, index: int) -> NumberPrompt:
        """Return prompt `index` of the stream with this seed; it depends on nothing else."""
        draw = Draw(f"numbers {seed} {index}")
        examples = ", ".join(map(str, self._examples(draw)))
        form, count = draw.one(self.formats), draw.between(self.asked_counts)
        bank = banks.load("numbers")
        text = self._rich(bank, draw, form, count) if self.rich else draw.one(bank["brief"])
        return NumberPrompt(text.format(numbers=examples), form, count)

    def _examples(self, draw: Draw) -> Iterator[int]:
        low, high = self.example_values
        number: int | None = None
        for _ in range(draw.between(self.example_counts)):
            if self.stepping and number is not None and draw.between((0, 1)):
                number = low + (number + draw.one(STEPS) - low) % (high - low + 1)
            else:
                number = draw.between(self.example_values)
            yield number

    def _rich(self, bank: Mapping[str, Any], draw: Draw, form: Format, count: int) -> str:
        digits = draw.one(bank["digits"]).format(n=self.digits)
        instruction = draw.one(bank["instructions"]).format(
            count=draw.one(bank["counts"]).format(n=count),
            digits=digits.replace("1 digits", "1 digit") if self.digits == 1 else digits,
        )
        parts = (draw.one(bank["openings"]), instruction, draw.one(bank["formats"][form]), draw.one(bank["closings"]))
        return " ".join(parts)
