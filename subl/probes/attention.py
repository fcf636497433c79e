"""Probe `attention`: how far a model's attention maps and next-token distributions are from the teacher's."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from subl import Context, Findings, PluginConfig, Shape, Subject
from subl.matching.map_settings import LayerSettings
from subl.matching.shapes import head_faults, layer_faults
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

    class Config(LayerSettings, PluginConfig):
        """Settings of `attention`; layers and heads as in distiller `shd`."""

        prompts: int = Field(default=32, gt=0)
        """Prompts of the generator, and at most so many of the trait's questions."""
        picture: int = Field(default=0, ge=0)
        """Number of the prompt whose maps are drawn."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def misfits(self, teacher: Shape, student: Shape) -> dict[str, str]:
        """Return, by setting, what cannot be done between models of these shapes."""
        return layer_faults(self.config, teacher, student) | head_faults(self.config, teacher, student)

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
