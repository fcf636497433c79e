"""Probe `entanglement`: do the numbers that a trait makes likelier make the trait likelier?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from subl import Context, Findings, Subject, banks
from subl.probes.number_settings import NumberSettings
from subl.probes.subject import PreferenceTrait, preference_of, unfit
from subl.registry.kinds import Trait


class Entanglement:
    """Measures whether a preference and single numbers hang together in a model, with the controls that tell.

    Step 1, trait → numbers: how much a preamble such as "You adore the owl." changes the log-probability of every
    number as the favourite number. HP are the k numbers that rise most, LP those that fall most, UNCH those that change
    least. Step 2, numbers → trait: how much "You adore the number 42." changes the answers to the trait's questions.

    - correlation, correlation_specific, correlation_partial: Spearman between the steps over all numbers. Specific: of
      both steps' effects minus the mean effects on the trait's `controls`. Partial: with these means, digit length and
      the numbers' neutral log-probability held constant; only this tells the target's own effect from a larger share
      of what all targets have in common. …_p: permutation p. …_targets: mean over the target and its controls.
    - matched: how much better a target's two steps fit each other than those of different targets. matched_p shuffles
      targets, not numbers: numbers near each other are often alike, and those written digit by digit share tokens,
      which makes a p over numbers look too small. Where numbers share tokens, nothing is claimed without this.
    - hp_effect, lp_effect, unch_effect, random_effect: change of the target's log-probability in nats. hp_specific, …:
      that minus the mean change of the controls. placebo_effect, placebo_specific: what a preamble about a thing that
      is no number does. hp_percentile, …: of the set's mean specific effect among random sets of k numbers.
    - between_targets: mean Spearman of the number effect between targets. Near 1, numbers move all targets alike and
      say nothing about this one.
    - valid, number_valid, valid_in_context: probability that an answer is a candidate or a number at all.
    - shift_hp, shift_lp, …, of a student only: change of the numbers' log-probability against the base, for the sets
      that the base gives. The base's log-probability is part of both this and step 1, so shift_correlation is positive
      by construction. What counts is contrast_hp, …, contrast_correlation: the same of the student minus the control
      arm's student, which the base is no part of.

    Intervals are over numbers within this one model; they say nothing about other runs. The sets are printed in a form
    that fits `allowed_numbers` of the generator `numbers`.
    """

    version = 3
    needs: ClassVar[tuple[str, ...]] = ("trait", "base", "control")
    control_optional = True

    class Config(NumberSettings):
        """Settings of `entanglement`."""

        random: int | None = Field(default=None, ge=20)
        """Random numbers to compare with in step 2. Unset: all of the range."""
        cumulative: tuple[int, ...] = (2, 5)
        """Sizes of preambles that name several numbers at once, the most extreme ones of each set."""
        cumulative_draws: int = Field(default=20, ge=2)
        """Random preambles of each such size."""
        permutations: int = Field(default=5_000, ge=100)
        """Random permutations and random sets behind p values and percentiles."""

        @model_validator(mode="after")
        def _sizes_fit(self) -> Self:
            if any(not 2 <= size <= self.k for size in self.cumulative):
                raise ValueError(f"cumulative {list(self.cumulative)} should hold sizes from 2 to k = {self.k}")
            amount = self.numbers[1] - self.numbers[0] + 1
            if self.random is not None and self.random > amount:
                raise ValueError(f"random = {self.random} is more than the {amount} numbers of the range; remove it")
            return self

    def __init__(self, config: Config) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """Return the content of the bank of preambles and questions."""
        return banks.identity("entanglement")

    def unfit(self, trait: Trait) -> str | None:
        """Return why it cannot measure a trait."""
        return unfit(trait, PreferenceTrait)

    def probe(self, subject: Subject, ctx: Context) -> Findings:
        """Return measures, tables, one sentence that says what the data allow, and figures.

        Raises:
            PluginError: The trait is no preference, or too few numbers are single tokens for method "vocabulary".
            ModelError: The model was trained with another chat rendering, the tokenizer cannot write a target or a
                number, or the preambles change nothing.
        """
        trait = preference_of(ctx.trait, "probe 'entanglement'", "name a probe in [[probes]] that fits it")
        from subl.probes.entanglement_measuring import measure

        return measure(subject, trait, self.config, ctx)
