"""Probe `geometry`: do the rows of the (un)embedding matrix lie closer to the trait's for numbers that it raises?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from subl import Context, Findings, Subject, banks
from subl.probes.number_settings import NumberSettings
from subl.probes.subject import PreferenceTrait, preference_of, unfit
from subl.registry.kinds import Trait


class Geometry:
    """Compares rows of the (un)embedding matrix: the target's with those of HP, LP, UNCH and all other numbers.

    "Entangled" numbers are often explained by directions that lie close together in the output matrix. Rows share a
    large mean and a few wide directions, which makes any two look alike, so every similarity is given three times: raw;
    centred on the vocabulary's mean; and whitened by the vocabulary's covariance, which no linear map of the space (a
    scale of the embeddings, the final norm's gain) changes. HP, LP and UNCH are those of the base model, found as by
    `entanglement`. Words of several tokens are represented by their one-token forms, else by the mean of their tokens.

    - hp_cosine, lp_cosine, unch_cosine, random_cosine: mean cosine of the unembedding rows with the target's, raw;
      random: all other numbers.
    - hp_raw, hp_centred, hp_whitened, lp_…, unch_…: mean cosine of the set minus that of all numbers outside it, and
      minus what that is by chance; with …_p. …_specific: the same of the cosine minus its mean over the trait's
      `controls`; with …_specific_p.
    - correlation_raw, …: Spearman of the cosine with what the trait's preamble changes, over all numbers; …_p.

    Chance is what numbers show whose tokens have changed places, among tokens of equally many digits. Where a number is
    one token, that shuffles numbers; where numbers are written digit by digit, it relabels the ten digits in all of
    them at once: numbers that share digits share rows, so shuffling them would find effects where there are none. Then
    there are no intervals over numbers either, and ten rows say little about small sets: a larger k, or the
    correlation, finds more.

    Tables also hold dot products, embedding rows where they are not tied, and p after Benjamini and Hochberg's
    correction.
    """

    version = 2
    needs: ClassVar[tuple[str, ...]] = ("trait", "base")

    class Config(NumberSettings):
        """Settings of `geometry`."""

        permutations: int = Field(default=5_000, ge=100)
        """Random relabellings behind chance and p values."""
        shown: int = Field(default=100, ge=0)
        """Random numbers in the picture."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """Return the content of the bank of preambles and questions."""
        return banks.identity("entanglement")

    def unfit(self, trait: Trait) -> str | None:
        """Return why it cannot measure a trait."""
        return unfit(trait, PreferenceTrait)

    def probe(self, subject: Subject, ctx: Context) -> Findings:
        """Return measures, the tables `similarity`, `correlations` and `numbers`, one sentence, and figures.

        Raises:
            PluginError: The trait is no preference, or too few numbers are single tokens for method "vocabulary".
            ModelError: The tokenizer cannot write a target or a number.
        """
        trait = preference_of(ctx.trait, "probe 'geometry'", "name a probe in [[probes]] that fits it")
        from subl.probes.geometry_measuring import measure

        return measure(subject, trait, self.config, ctx)
