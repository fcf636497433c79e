"""Probe `vocabulary_shift`: what changed in the whole next-token distribution on the trait's questions."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from subl import Context, Findings, PluginConfig, Runtime, Subject
from subl.probes.subject import PreferenceTrait, preference_of, unfit
from subl.registry.kinds import Trait


class VocabularyShift:
    """Compares the first token's distribution on the trait's questions before and after, over the whole vocabulary.

    Before is the model that the teacher or the student was made from. For the base itself, after is the base with the
    trait's statement in its system slot: what the trait looks like where it is said openly.

    - total_variation: how much probability moved, in [0, 1]; kl: KL(after ‖ before) in nats.
    - target_p_before, target_p_after, target_delta_p, target_delta_log_p (nats): of all first tokens that only the
      target's forms have. controls_…: mean over the trait's `controls`. specific_delta_log_p: target minus controls.
    - target_delta_rank: ΔRank, the places that the best of the target's surface forms gains in the vocabulary
      (positive: it rises). A rank can rise while the probability falls, where what was above it falls
      more; rank_only counts such questions, as a share.
    - target_percentile: percentage of tokens with less change of log-probability, among those with some probability.
    - numbers_delta_p: change of the probability that an answer begins with a digit.

    Intervals are over questions to this one model. Compare with the control arm's student: any training moves tokens.
    """

    version = 1
    needs: ClassVar[tuple[str, ...]] = ("trait", "base")

    class Config(PluginConfig):
        """Settings of `vocabulary_shift`."""

        top: int = Field(default=20, gt=0)
        """Tokens in each list of risers and fallers."""
        floor: float = Field(default=1e-6, ge=0, lt=1)
        """Tokens with less probability before and after are in no list by log-probability, and in no percentile."""
        statement: Literal["low", "medium", "high"] = "medium"
        """Strength of the trait's statement to the base."""
        batch_size: Annotated[int, Runtime] = Field(default=64, gt=0)
        """Sequences per forward pass."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def unfit(self, trait: Trait) -> str | None:
        """Return why it cannot measure a trait."""
        return unfit(trait, PreferenceTrait)

    def probe(self, subject: Subject, ctx: Context) -> Findings:
        """Return measures, the tables `words` and `movers`, one sentence, and figures.

        Raises:
            PluginError: The trait is no preference.
            ModelError: The two models have different vocabularies, or the statement changes nothing.
        """
        trait = preference_of(ctx.trait, "probe 'vocabulary_shift'", "name a probe in [[probes]] that fits it")
        from subl.probes.vocabulary_shift_measuring import measure

        return measure(subject, trait, self.config, ctx)
