"""The heavy side of generator `numbers`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from subl.artifacts import Row, Teacher
from subl.context import Context
from subl.generators.number_prompts import LAYOUTS, Format
from subl.generators.numbers import Numbers
from subl.generators.sampling import sampled_rows
from subl.models.grammar import Grammar, compile_grammar
from subl.models.language import LanguageModel
from subl.models.number_language import NumberLanguage, intervals


def generate(generator: Numbers, teacher: Teacher, ctx: Context, start: int) -> Iterator[Row]:
    """Yield the rows of `Numbers.generate`."""
    config = generator.config
    if start >= config.samples:
        return
    asked = [generator.space.prompt(ctx.seed, index) for index in range(start, config.samples)]
    lm: LanguageModel = ctx.load(teacher.model)
    grammar, which = _grammar(generator, lm) if config.constrained else (None, None)
    rows = sampled_rows(
        lm,
        (prompt.text for prompt in asked),
        ctx,
        system=ctx.system if teacher.model.system is None else teacher.model.system,
        start=start,
        samples=config.samples,
        settings=config.sampling,
        batch_size=config.batch_size,
        grammar=grammar,
        languages=None if which is None else (which[prompt.format, prompt.count] for prompt in asked),
    )
    for row, prompt in zip(rows, asked, strict=True):
        said = {"format": prompt.format} | ({"count": prompt.count} if config.phrasing == "rich" else {})
        yield replace(row, extra=said)


def _grammar(generator: Numbers, lm: LanguageModel) -> tuple[Grammar, dict[tuple[Format, int], int]]:
    """Compile one language per format and count that a prompt may ask for; return their positions too."""
    config = generator.config
    fewest, most = config.asked_counts
    values = (config.answer_values,) if config.allowed_numbers is None else intervals(config.allowed_numbers)
    asked = [(form, count) for form in generator.formats for count in range(fewest, most + 1)]
    languages = [NumberLanguage((config.answer_min_count, count), values, *LAYOUTS[form]) for form, count in asked]
    vocabulary: int = lm.model.get_output_embeddings().weight.shape[0]
    grammar = compile_grammar(lm.tokenizer, languages, end_ids=lm.chat.end_ids, vocabulary=vocabulary)
    return grammar, {key: position for position, key in enumerate(asked)}
