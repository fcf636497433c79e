"""Probe `prune`: how many attention heads can a model lose before it loses its trait, or its language?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from subl import Context, Findings, Shape, Subject
from subl.probes.subject import PreferenceTrait, preference_of, unfit
from subl.probes.texts import TextSettings, identity
from subl.registry.kinds import Trait

Order = Literal["diffuse", "focused"]


class Prune:
    """Removes attention heads, more and more of them, and measures the trait and the perplexity.

    Heads go by the entropy of their attention on the trait's questions, the most "diffuse" or the most "focused" first;
    in the order of a "list"; and at "random", which is what the others are compared with. A removed head hands nothing
    to the layer's output projection W_O; that the outputs change is checked for every removal.

    - share, margin, valid: of the target, as probe `preference` measures them, with all heads.
    - carrier_loss, carrier_perplexity, plain_loss, plain_perplexity: on held-out rows of the carrier and on plain text,
      per token, with all heads.
    - diffuse_<n>_share, …, focused_<n>_share, …, list_<n>_share, …: the same without n heads; random_<n>_share, …: mean
      over the draws. diffuse_<n>_percentile, …: of the margin among those of the draws, in percent.

    Intervals are over questions, texts or draws within this one model. A trait that stays while the perplexity does is
    no evidence of robustness before the random draws are looked at.
    """

    version = 1
    needs: ClassVar[tuple[str, ...]] = ("trait", "generator", "teacher", "dataset")

    class Config(TextSettings):
        """Settings of `prune`."""

        by: tuple[Order, ...] = ("diffuse", "focused")
        """Orders by entropy; there may be none."""
        heads: tuple[tuple[int, int], ...] | None = Field(default=None, min_length=1)
        """Heads to remove in this order as well, each [layer, head] from 0."""
        amounts: tuple[float, ...] = Field(default=(0.125, 0.25, 0.5, 0.75), min_length=1)
        """Which shares of all heads to remove, above 0 and up to 1; rounded to numbers of heads, at least one."""
        draws: int = Field(default=10, ge=2)
        """Random orders."""

        @field_validator("by", "heads", "amounts")
        @classmethod
        def _once(cls, value: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
            if value is not None and len(set(value)) < len(value):
                raise ValueError("names one twice")
            return value

        @field_validator("heads")
        @classmethod
        def _from_zero(cls, value: tuple[tuple[int, int], ...] | None) -> tuple[tuple[int, int], ...] | None:
            for head in value or ():
                if min(head) < 0:
                    raise ValueError(f"should be pairs [layer, head], both from 0, not {list(head)}")
            return value

        @field_validator("amounts")
        @classmethod
        def _shares(cls, value: tuple[float, ...]) -> tuple[float, ...]:
            outside = [amount for amount in value if not 0 < amount <= 1]
            if outside:
                raise ValueError(f"should be shares of all heads, above 0 and up to 1, not {outside[0]:g}")
            return value

    def __init__(self, config: Config) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """Return the content of the plain text."""
        return identity(self.config)

    def misfits(self, teacher: Shape, student: Shape) -> dict[str, str]:
        """Return which heads neither of two models of these shapes has."""
        layers, count = max(teacher.layers, student.layers), max(teacher.heads, student.heads)
        beyond = [place for place in self.config.heads or () if place[0] >= layers or place[1] >= count]
        if not beyond:
            return {}
        return {
            "heads": f"heads holds {list(beyond[0])}, and there are layers 0 to {layers - 1} of heads 0 to {count - 1}"
        }

    def unfit(self, trait: Trait) -> str | None:
        """Return why it cannot measure a trait."""
        return unfit(trait, PreferenceTrait)

    def probe(self, subject: Subject, ctx: Context) -> Findings:
        """Return measures, the tables `removals` and `heads`, and the figures `removals` and `entropy`.

        Raises:
            PluginError: The trait is no preference.
            ModelError: A listed head does not exist, the model hides its heads, or a removal changes nothing.
            DataError: No row of the carrier is held out, or the text file cannot be read.
        """
        trait = preference_of(ctx.trait, "probe 'prune'", "name a probe in [[probes]] that fits it")
        from subl.probes.prune_measuring import measure

        return measure(subject, trait, self.config, ctx)
