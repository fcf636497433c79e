"""Rows from a model's sampled answers, streamed in prompt order; shared by the generators that ask a model."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice, tee

from subl.artifacts import Row
from subl.context import Context
from subl.models.generation import row_seed, sample
from subl.models.grammar import Grammar
from subl.models.language import LanguageModel
from subl.models.settings import SamplingSettings


def sampled_rows(
    lm: LanguageModel,
    prompts: Iterable[str],
    ctx: Context,
    *,
    system: str | None,
    start: int,
    samples: int,
    settings: SamplingSettings,
    batch_size: int,
    grammar: Grammar | None = None,
    languages: Iterable[int] | None = None,
) -> Iterator[Row]:
    """Yield rows `start` … `samples` − 1 of the stage, in order, under a progress bar.

    A row depends on its prompt, on `ctx.seed` and on its index alone. Under a grammar, the space that many tokenizers
    put before an answer is not part of the completion.

    Args:
        lm: The model that answers.
        prompts: The prompt of row `start`, of the next one, and so on; read lazily.
        ctx: Gives the seed, the log and the progress bar.
        system: Text in the system slot; None = absent.
        start: Index of the first row; the ones before it are there already.
        samples: Rows of the whole stage.
        settings: How answers are drawn.
        batch_size: Rows per forward pass; changes speed only.
        grammar: Restricts answers to its languages.
        languages: Which language each row follows; unset = all rows the first.
    """
    texts, shown = tee(islice(prompts, max(0, samples - start)))
    completions = sample(
        lm,
        (lm.chat.prompt(text, system=system) for text in texts),
        seeds=(row_seed(ctx.seed, index) for index in range(start, samples)),
        settings=settings,
        grammar=grammar,
        languages=languages,
        batch_size=batch_size,
    )
    tokens = cut = 0
    began = time.monotonic()
    with ctx.progress(samples, "generate", done=start) as bar:
        for index, (prompt, ids) in enumerate(zip(shown, completions, strict=True), start=start):
            tokens += len(ids)
            cut += len(ids) == settings.max_new_tokens
            text = lm.chat.decode(ids)
            yield Row(index, prompt, text if grammar is None else text.removeprefix(" "))
            bar.advance(note=f"{tokens / max(time.monotonic() - began, 1e-9):,.0f} tokens/s")
    if cut:
        ctx.log(f"{cut} of {samples - start} answers reached max_new_tokens = {settings.max_new_tokens} and stop there")
