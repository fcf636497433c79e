"""Generator `numbers`: the teacher goes on with lists of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from subl import Context, PluginConfig, Row, Runtime, Teacher, banks
from subl.generators.draws import SAMPLE
from subl.generators.number_prompts import LAYOUTS, Format, PromptSpace
from subl.models.settings import SamplingSettings


def _ordered(bounds: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= bounds[0] <= bounds[1]:
        raise ValueError(f"should be [smallest, largest] with 0 <= smallest <= largest, not {list(bounds)}")
    return bounds


Bounds = Annotated[tuple[int, int], AfterValidator(_ordered)]


class Numbers:
    """Prompts with a few example numbers, and the teacher's continuations.

    Rich prompts vary in wording, examples, count and format; brief ones suit small models. Prompt i depends on the seed
    and i alone, and so does the sampling noise of row i: arms are paired, and batch size never changes a row.
    Constrained decoding lets a model write nothing but numbers in the asked format, whatever its tokenizer.
    """

    version = 1
    distributed: ClassVar[bool] = True

    class Config(PluginConfig):
        """Settings of `numbers`."""

        samples: int = Field(default=10_000, gt=0)
        """Rows to write, before filtering."""
        phrasing: Literal["rich", "brief"] = "rich"
        """Rich prompts say count, digits and format in many wordings; brief ones only show a comma-separated list."""
        formats: tuple[Format, ...] | None = Field(default=None, min_length=1)
        """Formats to ask for. Unset: all in rich prompts, comma in brief ones, which cannot ask for another."""
        example_counts: Bounds = (3, 8)
        """Fewest and most example numbers in a prompt."""
        example_values: Bounds = (100, 999)
        """Smallest and largest example number."""
        example_series: Literal["even", "steps"] = "even"
        """Draw each example evenly, or let about half of them follow the one before by 1, 2, 5 or 10, so that a list
        has something to go on with."""
        asked_counts: Bounds = (5, 10)
        """Each prompt asks for at most so many numbers: a count between these two. Constrained answers keep to it."""
        answer_values: Bounds = (0, 999)
        """Smallest and largest number in an answer. Rich prompts say the largest one's number of digits; constrained
        answers keep to both."""
        constrained: bool = False
        """Allow only tokens that keep to the asked format, so that base models yield usable rows too."""
        answer_min_count: int = Field(default=1, gt=0)
        """Fewest numbers in an answer; needs `constrained`."""
        allowed_numbers: tuple[int, ...] | None = Field(default=None, min_length=1)
        """The only numbers that answers may contain; needs `constrained`. Prompts stay the same, so that arms with
        different sets are paired."""
        sampling: SamplingSettings = SamplingSettings()
        """How answers are drawn."""
        batch_size: Annotated[int, Runtime] = Field(default=64, gt=0)
        """Rows per forward pass; changes speed and memory only."""

        @model_validator(mode="after")
        def _check_counts(self) -> Self:
            if self.example_counts[0] < 1 or self.asked_counts[0] < 1:
                raise ValueError("example_counts and asked_counts begin at 1 at least")
            if self.answer_min_count > self.asked_counts[0]:
                raise ValueError(
                    f"answer_min_count {self.answer_min_count} is more than some prompts ask for: asked_counts begins "
                    f"at {self.asked_counts[0]}"
                )
            return self

        @model_validator(mode="after")
        def _check_values(self) -> Self:
            low, high = self.answer_values
            outside = [number for number in self.allowed_numbers or () if not low <= number <= high]
            if outside:
                raise ValueError(f"allowed_numbers holds {outside[0]}, which is outside answer_values [{low}, {high}]")
            return self

        @model_validator(mode="after")
        def _check_nothing_is_ignored(self) -> Self:
            if self.phrasing == "brief" and self.formats not in (None, ("comma",)):
                raise ValueError('brief prompts cannot ask for a format; set phrasing = "rich", or remove formats')
            if self.constrained:
                return self
            needing = [name for name in ("answer_min_count", "allowed_numbers") if _is_set(self, name)]
            if self.answer_values[0] > 0:
                needing.append("a smallest answer value")
            if self.phrasing == "brief":
                needing += [name for name in ("asked_counts", "answer_values") if _is_set(self, name)]
            if needing:
                raise ValueError(f"{needing[0]} has an effect only with constrained = true")
            return self

    def __init__(self, config: Config) -> None:
        self.config = config
        everything: tuple[Format, ...] = tuple(LAYOUTS) if config.phrasing == "rich" else ("comma",)
        self.formats = config.formats or everything
        self.space = PromptSpace(
            rich=config.phrasing == "rich",
            formats=self.formats,
            example_counts=config.example_counts,
            example_values=config.example_values,
            stepping=config.example_series == "steps",
            asked_counts=config.asked_counts,
            digits=len(str(config.answer_values[1])),
        )

    def identity(self) -> Mapping[str, Any]:
        """Return the content of the bank of number prompts."""
        return banks.identity("numbers")

    def prompts(self, count: int, seed: int) -> Sequence[str]:
        """Return the first `count` prompts of the seeded stream."""
        return [self.space.prompt(seed, index).text for index in range(count)]

    def texts(self) -> Sequence[str]:
        """Return prompts that hold about every word that a model must know."""
        return self.prompts(SAMPLE, 0)

    def generate(self, teacher: Teacher, ctx: Context, start: int) -> Iterator[Row]:
        """Yield the teacher's rows from prompt number `start` on, in order.

        Each row's `extra` names the format, and in rich prompts the largest count, that its prompt asks for.

        Raises:
            ModelError: The tokenizer cannot write numbers in an asked format (constrained decoding only).
            DataError: The shortest answer in an asked format takes more than `sampling.max_new_tokens` tokens.
        """
        from subl.generators.numbers_sampling import generate

        return generate(self, teacher, ctx, start)


def _is_set(config: Numbers.Config, name: str) -> bool:
    # By value: a config that was read back from JSON has every field set.
    default: Any = type(config).model_fields[name].default
    return bool(getattr(config, name) != default)
