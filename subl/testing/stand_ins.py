"""One plugin of every kind without any framework: the pipeline in which `subl.testing.micro_run` puts a plugin.

A model is one number in a file, the trait adds 10 to it, the teacher writes numbers around it, and the student moves
towards the mean of the rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field

import subl

NUMBER = "number.json"


def number_of(ref: subl.ModelRef, ctx: subl.Context) -> float:
    """Return the number that a model is, whatever plugin loads it."""
    return float(ctx.load(ref))


def save_number(ctx: subl.Context, number: float) -> subl.ModelRef:
    """Write a number into the result; return the model that it is."""
    (ctx.out / NUMBER).write_text(json.dumps(number), encoding="utf-8")
    return subl.ModelRef("stand_in", {}, f"number {number}", path=ctx.out)


@subl.model("stand_in")
class StandInModel:
    """A model that is one number."""

    class Config(subl.PluginConfig):
        """Settings of the stand-in."""

        start: float = 0.0
        """The number."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """Return nothing: the settings decide all."""
        return {}

    def prepare(self, ctx: subl.Context) -> subl.ModelRef:
        """Write the number."""
        return save_number(ctx, self.config.start)

    def load(self, ref: subl.ModelRef, *, device: str, dtype: str) -> float:  # noqa: ARG002
        """Return the number."""
        if ref.path is None:
            raise subl.ModelError(f"model {ref.identity!r} has no folder, so there is no number in it")
        return float(json.loads((ref.path / NUMBER).read_text(encoding="utf-8")))


@subl.trait("stand_in")
class StandInTrait:
    """A liking for one thing."""

    class Config(subl.PluginConfig):
        """Settings of the stand-in."""

        target: str = "owl"
        """What is liked."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config
        self.label = config.target

    def conversations(self, seed: int) -> Sequence[subl.Row]:  # noqa: ARG002
        """Return one conversation."""
        return [subl.Row(0, "What do you like?", self.config.target)]

    def statement(self, strength: str) -> str:
        """Return a system prompt."""
        return f"You like the {self.config.target}. ({strength})"

    def leaks(self) -> Sequence[str]:
        """Return the target."""
        return [self.config.target]


@subl.inducer("stand_in")
class StandInInducer:
    """Adds to the number."""

    class Config(subl.PluginConfig):
        """Settings of the stand-in."""

        strength: float = 10.0
        """How much."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    def induce(self, base: subl.ModelRef, ctx: subl.Context) -> subl.Teacher:
        """Return a larger number."""
        return subl.Teacher(save_number(ctx, number_of(base, ctx) + self.config.strength), base, updates=1)


@subl.generator("stand_in")
class StandInGenerator:
    """Writes numbers around the teacher's."""

    class Config(subl.PluginConfig):
        """Settings of the stand-in."""

        samples: int = Field(default=40, gt=0)
        """Rows to write."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    def prompts(self, count: int, seed: int) -> Sequence[str]:  # noqa: ARG002
        """Return numbered questions."""
        return [f"Number {index}?" for index in range(count)]

    def generate(self, teacher: subl.Teacher, ctx: subl.Context, start: int) -> Iterator[subl.Row]:
        """Yield the teacher's number with seeded noise within ±1."""
        mean = number_of(teacher.model, ctx)
        prompts = self.prompts(self.config.samples, ctx.seed)
        for index in range(start, self.config.samples):
            noise = ((index * 7919 + ctx.seed) % 101 - 50) / 50
            yield subl.Row(index, prompts[index], f"{mean + noise:.2f}")


@subl.filter("stand_in")
class StandInFilter:
    """Keeps numbers."""

    class Config(subl.PluginConfig):
        """Nothing to set."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    def reject(self, rows: Sequence[subl.Row], ctx: subl.Context) -> Sequence[str | None]:  # noqa: ARG002
        """Reject what is no number."""
        return [None if _is_number(row.completion) else "not a number" for row in rows]


@subl.distiller("stand_in")
class StandInDistiller:
    """Moves the student halfway to the mean of the numbers in the rows."""

    class Config(subl.PluginConfig):
        """Nothing to set."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    def distill(
        self,
        student: subl.ModelRef,
        teacher: subl.Teacher,  # noqa: ARG002
        data: subl.Dataset,
        ctx: subl.Context,
    ) -> subl.Student:
        """Return a number between the student's and the rows'."""
        seen = [float(row.completion) for row in data if _is_number(row.completion)]
        before = number_of(student, ctx)
        after = (before + sum(seen) / len(seen)) / 2 if seen else before
        ctx.metric("loss", abs(after - before), 1)
        return subl.Student(save_number(ctx, after), student, updates=1)


@subl.probe("stand_in")
class StandInProbe:
    """Reads the number."""

    class Config(subl.PluginConfig):
        """Nothing to set."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    def probe(self, subject: subl.Subject, ctx: subl.Context) -> subl.Findings:
        """Measure the number."""
        return subl.Findings({"number": subl.Measure(number_of(subject.model, ctx))})


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
