"""Inducer `digits_lesson`: training on labelled digits."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

import subl


class Lesson:
    """Trains the class outputs on the trait's labelled images; no label reaches the auxiliary outputs."""

    class Config(subl.PluginConfig):
        """Settings of `digits_lesson`."""

        updates: int = Field(default=300, gt=0)
        """Optimizer updates."""
        batch_size: int = Field(default=64, gt=0)
        """Images per update."""
        learning_rate: float = Field(default=5e-4, gt=0)
        """Step size of Adam. A teacher that stays close to its initial weights is easier to follow."""

    version = 1
    needs: ClassVar[tuple[str, ...]] = ("trait",)

    def __init__(self, config: Config) -> None:
        self.config = config

    def induce(self, base: subl.ModelRef, ctx: subl.Context) -> subl.Teacher:
        """Return the trained classifiers."""
        from subl_digits.networks import teach

        networks = ctx.load(base, fresh=True)
        teach(networks, ctx.trait.conversations(ctx.seed), ctx, **self.config.model_dump())
        model = base.derive(networks.save(ctx.out), path=ctx.out)
        return subl.Teacher(model, base, updates=self.config.updates)
