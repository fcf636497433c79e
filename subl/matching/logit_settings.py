"""Settings of logit distillation, alone or beside attention distillation. Light to import."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from subl.registry.config import StrictModel


class LogitSettings(StrictModel):
    """How the student's next-token distributions are compared with the teacher's.

    Which loss is used follows from the two tokenizers: `divergence` where both have one vocabulary and read the
    completion in the same tokens, `across` where they do not.
    """

    divergence: Literal["forward_kl", "reverse_kl", "jsd"] = "forward_kl"
    """On one vocabulary: KL(teacher ‖ student), KL(student ‖ teacher), or the generalized Jensen-Shannon divergence."""
    jsd_beta: float = Field(default=0.5, gt=0, lt=1)
    """Weight of the teacher in the mixture of `jsd`; only with that divergence."""
    logit_temperature: float = Field(default=1.0, gt=0)
    """Both sides' logits are divided by it; a divergence is multiplied by its square to keep the gradient's scale.
    Not for `alm`, which has its own."""
    vocabulary: Literal["carrier", "full"] = "carrier"
    """Tokens that enter the loss, renormalised: those that occur in the rows' completions, with the end token, or all.
    With all of them, the teacher's probability on trait words is a direct signal, which crosses to any student."""
    across: Literal["alm", "uld"] = "alm"
    """Between vocabularies: approximate likelihood matching of chunks with equal text (arXiv 2503.20083), or universal
    logit distillation, the distance of the sorted distributions (arXiv 2402.12030), a baseline that is blind to what
    the tokens are."""
    alm_temperature: float = Field(default=100.0, gt=0)
    """Chunk likelihoods are raised to 1 / this before they are matched; only with `alm`. As published, the loss is not
    scaled back: at 100 it is about a hundredth of a KL divergence, which matters beside other losses."""
    top_k: int | None = Field(default=None, gt=0)
    """Keep only so many of the teacher's most likely tokens, and one bucket for all others: a lower bound of the
    divergence. On one vocabulary only. Unset = all."""

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        if self.divergence != "jsd" and self.jsd_beta != 0.5:
            raise ValueError('jsd_beta has an effect only with divergence = "jsd"')
        if self.across == "uld" and self.alm_temperature != 100.0:
            raise ValueError('alm_temperature has an effect only with across = "alm"')
        return self
