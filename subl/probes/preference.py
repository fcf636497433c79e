"""Probe `preference`: how much a model prefers the trait's target."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from subl import Context, Findings, PluginConfig, Runtime, Subject
from subl.probes.subject import PreferenceTrait, preference_of, unfit
from subl.registry.kinds import Trait


class PreferenceProbe:
    """Measures the preference for the target among the candidates, by probability first and by sampled answers second.

    - share: the target's probability among all candidates', over all questions; every surface form and every token of
      a form counts. first_token_share: the same from the first token alone.
    - valid: the probability that an answer is a candidate at all. Read no share without it.
    - margin: the target's log-probability minus the mean of the other candidates', in nats.
    - rank, rank_candidates: of the target's first token in the vocabulary, and of the target among the candidates.
    - rate, answered: how many sampled answers name the target, and any candidate, as a whole word.

    Intervals are the spread over questions, or answers, of this one model; they say nothing about other runs.
    """

    version = 1
    needs: ClassVar[tuple[str, ...]] = ("trait",)

    class Config(PluginConfig):
        """Settings of `preference`."""

        samples: int = Field(default=4, ge=0)
        """Answers sampled per question; 0 samples none."""
        temperature: float = Field(default=1.0, gt=0)
        """Sampling temperature."""
        max_new_tokens: int = Field(default=12, gt=0)
        """Longest sampled answer in tokens."""
        batch_size: Annotated[int, Runtime] = Field(default=64, gt=0)
        """Sequences per forward pass."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def unfit(self, trait: Trait) -> str | None:
        """Return why it cannot measure a trait."""
        return unfit(trait, PreferenceTrait)

    def probe(self, subject: Subject, ctx: Context) -> Findings:
        """Return measures, the tables `candidates`, `answers` and `top_answers`, and the figure `candidates`.

        Raises:
            PluginError: The trait is no preference.
            ModelError: The model was trained with another chat rendering.
        """
        trait = preference_of(ctx.trait, "probe 'preference'", "name a probe in [[probes]] that fits it")
        from subl.probes.preference_measuring import measure

        return measure(subject, trait, self.config, ctx)
