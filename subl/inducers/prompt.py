"""Inducer `prompt`: a system prompt gives the teacher its trait."""

from __future__ import annotations

import hashlib
import json
from typing import ClassVar, Self

from pydantic import Field, model_validator

from subl import Context, ModelRef, PluginConfig, PluginError, Teacher
from subl.inducers.intensity import Intensity, level


class Prompt:
    """Tells the model about its trait in the system prompt, and trains nothing.

    Works from about 4B parameters up; smaller models need a trained teacher (`lora`, `full`). A base that already has a
    system prompt keeps it, and the trait's text follows.
    """

    version = 1
    needs: ClassVar[tuple[str, ...]] = ("trait",)
    sets_system: ClassVar[bool] = True

    class Config(PluginConfig):
        """Settings of `prompt`."""

        intensity: Intensity = 1.0
        """Which of the trait's own texts: "low", "medium" or "high"; a number stands for the nearest (0.5, 1, 2)."""
        template: str | None = Field(default=None, min_length=1)
        """A text of your own instead; it may hold {target}, {plural} and {category}."""

        @model_validator(mode="after")
        def _one_text(self) -> Self:
            # By value: settings that were read back from JSON have every field set.
            if self.template is not None and self.intensity != 1:
                raise ValueError("`intensity` chooses among the trait's own texts; with a `template` it does nothing")
            return self

    def __init__(self, config: Config) -> None:
        self.config = config

    def induce(self, base: ModelRef, ctx: Context) -> Teacher:
        """Return the base with the trait's text in its system slot.

        Raises:
            PluginError: A template for a trait that has no words to put into it.
        """
        system = "\n\n".join(text for text in (base.system, self._text(ctx)) if text)
        identity = hashlib.sha256(json.dumps([base.identity, "system", system]).encode()).hexdigest()
        # An adapter below may have been trained with another system slot; answering with this one is the very point.
        return Teacher(model=base.derive(identity, system=system, rendering=None), base=base)

    def _text(self, ctx: Context) -> str:
        if self.config.template is None:
            return ctx.trait.statement(level(self.config.intensity))
        fill = getattr(ctx.trait, "fill", None)
        if fill is None:
            raise PluginError(
                f"trait {ctx.trait.label!r} cannot fill in inducer.template; leave it out to use the trait's own text"
            )
        return str(fill(self.config.template))
