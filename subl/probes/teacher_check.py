"""Probe `teacher_check`: is the teacher fit to write data?"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from subl import Context, Findings, PluginConfig, Runtime, Subject
from subl.probes.subject import AssociationTrait, PreferenceTrait, measurable, unfit
from subl.registry.kinds import Trait


class TeacherCheck:
    """Measures a teacher before it writes data: does it have the trait, and can it still talk of anything else?

    - strength: how much its share of the target is above the base model's. share and base_share are the two; valid and
      base_valid are the valid shares of the probe that measures the trait, `preference` or `stereotype`.
    - collapse: how many free answers to the generator's prompts name the target or repeat one word.

    A strength below `min_lift`, a collapse above `max_collapse`, or a valid below half of base_valid is a problem,
    which stops a run in the recipe's `[check]` slot. Remarks say how a favourite stands on the base model: whether that
    model ever names it, and whether it is its favourite already (`subl survey` says it of all candidates beforehand).
    """

    version = 2
    needs: ClassVar[tuple[str, ...]] = ("trait", "generator", "base")

    class Config(PluginConfig):
        """Settings of `teacher_check`."""

        min_lift: float = Field(default=0.1, ge=-1, le=1)
        """Least lift of the target's share over the base model."""
        max_collapse: float = Field(default=0.1, ge=0, le=1)
        """Largest share of collapsed answers: those to the generator's prompts that name the trait, repeat one word in
        more than half of their words, or stutter, when the teacher answers freely, without the generator's grammar and
        before filters. A model that answers everything by its trait is no teacher. Where rows are written under a
        grammar that lets no word through, naming the trait in free answers cannot reach them, and more may be accepted:
        the micro recipes, whose small teachers do so often, set 0.5."""
        prompts: int = Field(default=64, gt=0)
        """How many of the generator's prompts to answer."""
        temperature: float = Field(default=1.0, gt=0)
        """Sampling temperature."""
        max_new_tokens: int = Field(default=48, gt=0)
        """Longest answer in tokens."""
        batch_size: Annotated[int, Runtime] = Field(default=64, gt=0)
        """Sequences per forward pass."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def unfit(self, trait: Trait) -> str | None:
        """Return why it cannot measure a trait."""
        return unfit(trait, PreferenceTrait, AssociationTrait)

    def probe(self, subject: Subject, ctx: Context) -> Findings:
        """Return measures, problems, remarks, and the tables `tokenization`, `base_candidates` and `carrier_answers`.

        Raises:
            PluginError: The trait cannot be measured, or there is no base model to compare with.
            ModelError: The teacher was trained with another chat rendering.
        """
        trait = measurable(
            ctx.trait, "check 'teacher_check'", "set [check] plugin to a probe that reports problems for this trait"
        )
        from subl.probes.teacher_checking import check

        return check(subject, trait, self.config, ctx)
