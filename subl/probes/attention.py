"""Probe `attention`: how far a model's attention maps and next-token distributions are from the teacher's."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from subl import Context, Findings, PluginConfig, Subject
from subl.matching.squeezing_plan import Merge
from subl.probes.subject import AssociationTrait, PreferenceTrait, unfit
from subl.registry.kinds import Trait


class Attention:
    """Compares a model's attention maps with the teacher's squeezed ones, layer by layer and head by head.

    The text is the same for every model of a recipe: the generator's first prompts, answered with numbers that no model
    wrote, and the trait's questions, answered in its way. So the base's findings are "before" and the student's
    "after", and maps can be seen to move on the carrier, on the trait, or on both.

    Measures, in nats per query row: `map_kl` and `trait_map_kl`, mean over layers and heads; `logit_kl` and
    `trait_logit_kl` on the tokens of the answers, over the whole vocabulary (between two vocabularies: `…_alm`, the
    distance of the likelihoods of shared pieces of text); `coverage`, shared pieces per token of the answers.
    """

    version = 1
    needs: ClassVar[tuple[str, ...]] = ("trait", "generator", "teacher")

    class Config(PluginConfig):
        """Settings of `attention`."""

        prompts: int = Field(default=32, gt=0)
        """Prompts of the generator, and at most so many of the trait's questions."""
        student_layers: tuple[int, ...] | None = Field(default=None, min_length=1)
        """Blocks of the model to compare, from 0. Unset = all."""
        teacher_layers: tuple[int, ...] | None = Field(default=None, min_length=1)
        """The teacher's block for each of them. Unset: spread evenly, the last on the last."""
        merge: Merge = "progressive"
        """How heads are squeezed; as in distiller `shd`."""
        picture: int = Field(default=0, ge=0)
        """Number of the prompt whose maps are drawn."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def unfit(self, trait: Trait) -> str | None:
        """Return why it cannot measure a trait."""
        return unfit(trait, PreferenceTrait, AssociationTrait)

    def probe(self, subject: Subject, ctx: Context) -> Findings:
        """Return the divergences and figures; nothing to compare for the teacher itself.

        Raises:
            PluginError: The trait has no questions, or `picture` names no prompt.
            ModelError: Layers or heads cannot be matched as asked, or a model hides its maps.
        """
        if subject.role == "teacher":
            return Findings(remarks=("the teacher's maps are what the others are compared with",))
        from subl.probes.attention_measuring import measure

        return measure(self.config, subject, ctx)
