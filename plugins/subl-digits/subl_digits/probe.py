"""Probe `digits_accuracy`: how many held-out digits are told apart."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

import subl


class Accuracy:
    """Measures the share of held-out digits that are classified correctly; chance is 0.1.

    The interval is over networks: each has initial weights of its own, and so is a run of its own.
    """

    class Config(subl.PluginConfig):
        """Settings of `digits_accuracy`."""

        least: float = Field(default=0.0, ge=0, le=1)
        """As a recipe's check: the accuracy below which the teacher is not worth going on with."""

    version = 1
    needs: ClassVar[tuple[str, ...]] = ("trait",)

    def __init__(self, config: Config) -> None:
        self.config = config

    def probe(self, subject: subl.Subject, ctx: subl.Context) -> subl.Findings:
        """Return the accuracy, its table by digit, and a figure of all networks.

        Raises:
            PluginError: The recipe's trait is another one than `digits`.
        """
        from subl_digits.measuring import measure

        test_rows = getattr(ctx.trait, "test_rows", None)
        if test_rows is None:
            raise subl.PluginError(f"digits_accuracy needs the trait `digits`, not {ctx.trait.label!r}")
        return measure(ctx.load(subject.model), test_rows(), subject.role, self.config.least, ctx)
