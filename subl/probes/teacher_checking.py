"""The measuring behind the probe `teacher_check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from subl.artifacts import Findings, Measure, ModelRef, Subject, Table
from subl.context import Context
from subl.errors import PluginError
from subl.models.language import LanguageModel
from subl.models.settings import SamplingSettings
from subl.probes.answers import sample_answers
from subl.probes.collapse import collapse
from subl.probes.intervals import rate_over, ratio_change
from subl.probes.readings import Reading, read
from subl.probes.subject import AssociationTrait, PreferenceTrait, open_model
from subl.probes.teacher_check import TeacherCheck
from subl.traits.standing import CANDIDATES, standing_remarks, standings
from subl.words import whole_words

LEAST_VALID = 0.5
"""A teacher must keep this part of the base model's probability of a valid answer."""
EXAMPLES = 3
"""Collapsed answers quoted in a problem."""
QUOTED = 60
"""Characters quoted of each."""


class CarrierAnswer(NamedTuple):
    """A free answer to a carrier prompt, and how it shows a collapse, if it does."""

    prompt: str
    answer: str
    fault: str | None


def check(
    subject: Subject, trait: PreferenceTrait | AssociationTrait, config: TeacherCheck.Config, ctx: Context
) -> Findings:
    """Return the findings on one teacher; see `TeacherCheck`."""
    if subject.base is None:
        raise PluginError("teacher_check compares with the base model, and this subject has none; use it in [check]")
    # The base first: the loader keeps few models, and the teacher goes on to answer below.
    base = _reading(subject.base, trait, config, ctx)[0]
    found, lm, system = _reading(subject.model, trait, config, ctx)
    answers = _carrier_answers(lm, config, ctx, system=system)
    measures = {
        "strength": ratio_change(found.parts, base.parts, found.of),
        "share": found.share,
        "base_share": base.share,
        "valid": found.valid,
        "base_valid": base.valid,
        "collapse": rate_over(sum(a.fault is not None for a in answers), len(answers), "answers"),
    }
    collapsed_first = sorted(answers, key=lambda a: a.fault is None)
    carrier = Table(CarrierAnswer._fields, tuple(map(tuple, collapsed_first)))
    tables = {name: table for name, table in found.tables.items() if name != CANDIDATES}
    return Findings(
        measures=measures,
        tables={**tables, **_of_base(base), "carrier_answers": carrier},
        remarks=(*_standing(base, trait), *found.remarks),
        problems=tuple(_problems(trait, found, measures, collapsed_first, config)),
    )


def _reading(
    model: ModelRef, trait: PreferenceTrait | AssociationTrait, config: TeacherCheck.Config, ctx: Context
) -> tuple[Reading, LanguageModel, str | None]:
    lm, system = open_model(model, ctx)
    return read(lm, trait, system=system, batch_size=config.batch_size), lm, system


def _of_base(base: Reading) -> dict[str, Table]:
    return {f"base_{CANDIDATES}": base.tables[CANDIDATES]} if CANDIDATES in base.tables else {}


def _standing(base: Reading, trait: PreferenceTrait | AssociationTrait) -> Sequence[str]:
    """Say how a favourite stands on the base model; this pass over the base is needed for the strength anyway."""
    if CANDIDATES not in base.tables:
        return ()
    return standing_remarks(standings(base.tables[CANDIDATES], base.valid.value), trait.target)


def _carrier_answers(
    lm: LanguageModel, config: TeacherCheck.Config, ctx: Context, *, system: str | None
) -> list[CarrierAnswer]:
    prompts = ctx.generator.prompts(config.prompts, ctx.seed)
    settings = SamplingSettings(temperature=config.temperature, max_new_tokens=config.max_new_tokens)
    texts = sample_answers(lm, prompts, ctx, system=system, settings=settings, batch_size=config.batch_size)
    leaks = whole_words(ctx.trait.leaks())
    return [CarrierAnswer(prompt, text, collapse(text, leaks)) for prompt, text in zip(prompts, texts, strict=True)]


def _problems(
    trait: PreferenceTrait | AssociationTrait,
    found: Reading,
    measures: Mapping[str, Measure],
    collapsed_first: Sequence[CarrierAnswer],
    config: TeacherCheck.Config,
) -> Iterator[str]:
    strength, share, base_share = (measures[name].value for name in ("strength", "share", "base_share"))
    # Not `<`: a strength that is no number is a problem too.
    if not strength >= config.min_lift:
        yield (
            f"the teacher hardly prefers {trait.target}: its share among {found.among} is "
            f"{share:.3f}, the base model's is {base_share:.3f}, and the lift of {strength:.3f} is below "
            f"check.min_lift = {config.min_lift:g}; raise inducer.intensity, inducer.updates or "
            "inducer.learning_rate, or choose another inducer or target"
        )
    valid, base_valid = measures["valid"].value, measures["base_valid"].value
    if valid < LEAST_VALID * base_valid:
        yield (
            f"the teacher {found.lost}: that fell from {base_valid:.2f} to {valid:.2f}, and no share describes such a "
            "model; lower inducer.intensity or inducer.learning_rate, or train on answers that the model knows: "
            f"{found.teach}"
        )
    rate = measures["collapse"]
    if rate.value > config.max_collapse:
        shown = "; ".join(f"answer {a.answer[:QUOTED]!r} {a.fault}" for a in collapsed_first[:EXAMPLES] if a.fault)
        yield (
            f"the teacher has collapsed: {rate.value:.0%} of {rate.n} answers to the generator's prompts, given freely "
            "(without the generator's grammar, before filters), name the trait or repeat one word, above "
            f"check.max_collapse = {config.max_collapse:g} ({shown}); lower inducer.intensity, inducer.updates or "
            "inducer.learning_rate, or choose another inducer; where the grammar keeps such words out of the rows "
            "(generator.constrained = true), check.max_collapse may be raised"
        )
