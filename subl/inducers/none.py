"""Inducer `none`: the unbiased teacher of control arms."""

from __future__ import annotations

from typing import ClassVar

from subl import Context, ModelRef, PluginConfig, Teacher


class NoTrait:
    """Leaves the base model as it is: the teacher of a control arm."""

    version = 1
    trait_free: ClassVar[bool] = True

    class Config(PluginConfig):
        """There is nothing to set."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def induce(self, base: ModelRef, ctx: Context) -> Teacher:  # noqa: ARG002 (the contract's parameter)
        """Return the base as the teacher."""
        return Teacher(model=base, base=base)
