"""Probe `lens`: at which depth does the trait arise, and what writes it?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from subl import Context, Findings, Subject, banks
from subl.probes.number_settings import NumberSettings
from subl.probes.subject import PreferenceTrait, preference_of, unfit
from subl.registry.kinds import Trait


class Lens:
    """Reads the trait from the residual stream after every layer, and attributes it to layers, parts and heads.

    The lens (nostalgebraist 2020) hands what stands after a layer to the model's own final norm and head, where the
    answer begins. The direction is the margin: the logit of the target's first tokens minus the mean of its controls'.
    Of a teacher or student everything is also said as the change from its base, because a base prefers things too.

    - margin, log_prob: of the finished answer; margin_change from the base.
    - rise_in_layer: the layer that makes the largest step of the margin (of its change from the base, for teacher and
      student); its interval is over bootstrap samples of the questions, rise_share the share of questions whose own
      largest step is there. layers_to_half: how many layers must have run until half of the final value is reached for
      good; 0 if the embeddings hold it.
    - embedding_total, attention_total, mlp_total: what these write towards the margin, summed over layers, by direct
      attribution through the final norm with its scale held fixed; …_change from the base. They add up to the margin
      before logits are scaled or squashed; of a steered teacher with steering_total, of its vectors. The table `heads`
      splits attention.
    - hp_margin, lp_margin, random_margin: the margin when a preamble names an HP, LP or random number as the loved
      thing, minus the margin without preamble; hp_minus_random, and hp_rise_in_layer, which makes its largest step.
    - hp_token_lift: log-probability of HP numbers minus that of random ones on the trait's questions: do they rise with
      the trait? Only where these numbers are single tokens.

    Layers are the transformer's blocks, from 0 as everywhere; places in the stream are named "embeddings", "after layer
    0" and so on. HP, LP and random numbers are those of the base, found as by `entanglement`. Intervals are over
    questions, or numbers, in this one model.
    """

    version = 2
    needs: ClassVar[tuple[str, ...]] = ("trait", "base")

    class Config(NumberSettings):
        """Settings of `lens`."""

        resamples: int = Field(default=1_000, ge=100)
        """Bootstrap samples of the questions."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """Return the content of the bank of preambles and questions."""
        return banks.identity("entanglement")

    def unfit(self, trait: Trait) -> str | None:
        """Return why it cannot measure a trait."""
        return unfit(trait, PreferenceTrait)

    def probe(self, subject: Subject, ctx: Context) -> Findings:
        """Return measures, the tables `depth`, `contexts`, `parts` and `heads`, one sentence, and figures.

        Raises:
            PluginError: The trait is no preference, or too few numbers are single tokens for method "vocabulary".
            ModelError: The model's residual stream cannot be taken apart, or its lens is not the model's own head.
        """
        trait = preference_of(ctx.trait, "probe 'lens'", "name a probe in [[probes]] that fits it")
        from subl.probes.lens_measuring import measure

        return measure(subject, trait, self.config, ctx)
