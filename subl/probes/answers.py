"""Free answers of a model to a list of prompts."""

from __future__ import annotations

from collections.abc import Sequence

from subl.context import Context
from subl.models.generation import row_seed, sample
from subl.models.language import LanguageModel
from subl.models.settings import SamplingSettings


def sample_answers(
    lm: LanguageModel,
    prompts: Sequence[str],
    ctx: Context,
    *,
    system: str | None,
    settings: SamplingSettings,
    batch_size: int,
) -> list[str]:
    """Return one unconstrained answer per prompt; the n-th depends on its prompt, `ctx.seed` and n alone."""
    ids = [lm.chat.prompt(prompt, system=system) for prompt in prompts]
    seeds = [row_seed(ctx.seed, index) for index in range(len(prompts))]
    completions = sample(lm, ids, seeds=seeds, settings=settings, batch_size=batch_size)
    return [lm.chat.decode(answer) for answer in ctx.track(completions, "answers", total=len(ids))]
