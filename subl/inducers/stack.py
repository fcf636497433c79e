"""Inducer `stack`: several inducers, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Self

from pydantic import ValidationError, model_validator

from subl import Context, ModelRef, PluginConfig, Teacher
from subl.inducers.intensity import Intensity
from subl.registry.kinds import Inducer
from subl.registry.slots import Chosen, Use, read_settings


class Stack:
    """Lets each inducer start from the teacher that the one before it made, e.g. an adapter and then a system prompt.

    `of = [{ plugin = "lora" }, { plugin = "prompt" }]` is how teachers of about 1B parameters are made in the field.
    What is trained after a prompt is trained under that prompt. After an interruption the first inducer begins again.
    """

    version = 1

    class Config(PluginConfig):
        """Settings of `stack`."""

        of: tuple[Annotated[Chosen, Use("inducer")], ...]
        """The inducers in order, each a table with its `plugin` and settings."""
        intensity: Intensity | None = None
        """Intensity of all of them. Unset: each has its own."""

        @property
        def updates(self) -> float | None:
            """Optimizer updates of all of them, at intensity 1 of the stack; None if nothing says that it trains."""
            each = (
                updates * (getattr(part.config, "intensity", 1) if self.intensity is None else 1)
                for part in self.of
                if isinstance(updates := getattr(part.config, "updates", None), int | float)
            )
            return sum(each) or None

        @model_validator(mode="after")
        def _check_parts(self) -> Self:
            if len(self.of) < 2:
                raise ValueError(f"a stack is of two inducers at least, not {len(self.of)}; name a single one itself")
            for number, part in enumerate(self.of):
                if part.declares("trait_free"):
                    raise ValueError(f"of.{number}: {part.name!r} leaves the model as it is; remove it from the stack")
                if self.intensity is None:
                    continue
                field = type(part.config).model_fields.get("intensity")
                if field is None:
                    raise ValueError(f"of.{number}: {part.name!r} has no intensity; remove that of the stack")
                # By value: settings that were read back from JSON have every field set.
                if getattr(part.config, "intensity") != field.default:  # noqa: B009 (only the field is known to exist)
                    raise ValueError(f"of.{number}: has an intensity of its own beside that of the stack; keep one")
            self.parts()
            return self

        def parts(self) -> tuple[Chosen, ...]:
            """Return the inducers at the intensity that they are to have."""
            if self.intensity is None:
                return self.of
            return tuple(replace(part, config=_at(part, self.intensity)) for part in self.of)

    def __init__(self, config: Config) -> None:
        self.config = config

    def induce(self, base: ModelRef, ctx: Context) -> Teacher:
        """Return the last inducer's teacher; its base is the first one's."""
        teacher = Teacher(model=base, base=base)
        for inducer, own in self._steps(ctx):
            made = inducer.induce(teacher.model, own)
            teacher = Teacher(model=made.model, base=base, updates=teacher.updates + made.updates)
        return teacher

    def _steps(self, ctx: Context) -> Iterator[tuple[Inducer, Context]]:
        """Yield each inducer, with folders of its own."""
        for number, part in enumerate(self.config.parts()):
            name = f"{number}_{part.name}"
            own = replace(ctx, out=ctx.out / name, work=ctx.work / name)
            for folder in (own.out, own.work):
                folder.mkdir(parents=True, exist_ok=True)
            yield part.build(), own


def _at(part: Chosen, intensity: float) -> PluginConfig:
    settings = part.config.model_dump(mode="json") | {"intensity": intensity}
    try:
        # Read anew, so that a part which cannot have this intensity says so.
        return read_settings(type(part.config), settings)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ValueError(f"{part.name!r} cannot have the intensity of the stack: {reason}") from error
