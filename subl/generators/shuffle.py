"""Generator `shuffle`: another generator's rows with their numbers, or their completions, in another order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from subl import Context, Row, Teacher
from subl.generators.draws import Draw
from subl.generators.wrapping import NUMBER, Wrapping, WrappingConfig


class Shuffle(Wrapping):
    """A control: the rows of another generator, shuffled, so that order goes and the numbers themselves stay.

    Within rows, every row keeps its numbers and its format, and they change places. Across rows, every prompt gets the
    completion of another row of the same format, which parts answers from what they answer. Both weaken the effect in
    the published experiments (Cloud et al. 2025, appendix). Prompts stay as they are.
    """

    version = 2

    class Config(WrappingConfig):
        """Settings of `shuffle`."""

        how: Literal["within", "across"] = "within"
        """Shuffle the numbers within each row, or whole completions across rows. Across needs all rows before the first
        can be given on; they are kept meanwhile, so that a restart loses none."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.how = config.how

    def generate(self, teacher: Teacher, ctx: Context, start: int) -> Iterator[Row]:
        """Yield the wrapped generator's rows in their own order of prompts, shuffled, from number `start` on."""
        if self.how == "across":
            yield from _across(self.every_row(teacher, ctx), ctx)[start:]
            return
        for row in self.inner.generate(teacher, ctx, start):
            yield _within(row, ctx.seed)


def _within(row: Row, seed: int) -> Row:
    numbers = iter(Draw(f"shuffle {seed} {row.index}").shuffled(NUMBER.findall(row.completion)))
    return replace(row, completion=NUMBER.sub(lambda _: next(numbers), row.completion))


def _across(rows: list[Row], ctx: Context) -> list[Row]:
    """Give every row the completion of another one in its format; one cycle per format, so that none keeps its own."""
    groups: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        groups[_format(row.completion)].append(position)
    result = list(rows)
    for form, members in groups.items():
        sources = Draw(f"shuffle {ctx.seed} {form!r}").cycle(len(members))
        for place, source in enumerate(sources):
            result[members[place]] = replace(rows[members[place]], completion=rows[members[source]].completion)
    alone = sum(len(members) == 1 for members in groups.values())
    if alone:
        ctx.log(f"{alone} of {len(rows)} rows are the only ones of their format and keep their completion")
    return result


def _format(completion: str) -> tuple[str, ...]:
    """Return what stands around the numbers, each once: equal in lists of the same format, whatever their length."""
    text = completion.strip()
    if any(map(str.isalpha, text)):
        return ("text",)
    before, *between = NUMBER.split(text)
    after = between.pop() if between else ""
    return before, *dict.fromkeys(between), after
