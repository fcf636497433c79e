"""The measuring behind the probe `vocabulary_shift`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subl.artifacts import Findings, Measure, Subject, Table
from subl.context import Context
from subl.errors import ModelError
from subl.models.language import LanguageModel
from subl.models.scoring import next_token_log_probs
from subl.probes.entanglement_readings import ROUNDING
from subl.probes.entanglement_statistics import Floats, Positions, percentiles
from subl.probes.entanglement_wording import controls_of
from subl.probes.intervals import UNIT, mean_over
from subl.probes.subject import PreferenceTrait, open_model
from subl.probes.vocabulary_shift import VocabularyShift
from subl.probes.vocabulary_shift_figures import movers_figure, scatter, words_figure
from subl.probes.vocabulary_shift_statistics import Shift, WordShift, movers, word_shift
from subl.traits.tokens import spell

TARGET, CONTROL, NUMBER, OTHER = "target", "control", "number", ""
_MOVER = ("by", "direction", "place", "token", "id", "kind", "p_before", "p_after", "delta_p", "delta_log_p")
_WORD = ("word", "kind", "p_before", "p_after", "delta_p", "delta_log_p", "rank_before", "rank_after", "delta_rank")


@dataclass(frozen=True, slots=True)
class Named:
    """What is known of tokens and words.

    Args:
        texts: Every token as text.
        kinds: Every token's kind.
        words: Target and controls, the target first.
    """

    texts: Sequence[str]
    kinds: Sequence[str]
    words: Mapping[str, WordShift]


def measure(subject: Subject, trait: PreferenceTrait, config: VocabularyShift.Config, ctx: Context) -> Findings:
    """Return the findings on one model; see `VocabularyShift`."""
    lm, system = open_model(subject.model, ctx)
    shift, compared = _distributions(subject, trait, config, lm, system, ctx)
    named = _named(lm, trait, shift, system)
    found = _measures(shift, named, config.floor)
    lists = {
        "probability": movers(shift.delta_p, np.arange(len(named.texts)), config.top),
        "log-probability": movers(shift.delta_log_p, shift.likely(config.floor), config.top),
    }
    title = f"{compared}, {len(shift.before)} questions"
    ctx.figure("tokens", scatter(shift, named.kinds, config.floor, title))
    ctx.figure("movers", movers_figure(shift, named.texts, named.kinds, lists["probability"], title))
    ctx.figure("words", words_figure(named.words, title))
    sentence = _sentence(found, trait.target, compared)
    ctx.log(f"{subject.role}: {sentence}")
    tables = {"words": _words(named), "movers": _movers(shift, named, lists)}
    return Findings(found, tables, remarks=(sentence, *_remarks(found, trait.target, subject.role)))


def _distributions(
    subject: Subject,
    trait: PreferenceTrait,
    config: VocabularyShift.Config,
    lm: LanguageModel,
    system: str | None,
    ctx: Context,
) -> tuple[Shift, str]:
    """Return both distributions over the tokenizer's tokens, and what is compared."""

    def read(model: LanguageModel, slot: str | None) -> Floats:
        prompts = [model.chat.prompt(question, system=slot) for question in trait.questions()]
        table = next_token_log_probs(model, prompts, batch_size=config.batch_size)
        values: Floats = table[:, : len(model.tokenizer)].double().numpy()
        return values

    if subject.role == "base":
        statement = " ".join(filter(None, (system, ctx.trait.statement(config.statement))))
        before, after = read(lm, system), read(lm, statement)
        if np.abs(after - before).max() < ROUNDING:
            raise ModelError(
                f"the trait's statement in the system slot changes no probability of the base, so it does not reach it "
                f"({statement!r}); look at its chat template: does it write the system text into the prompt?"
            )
        return Shift.of(before, after), "base with the trait's statement − base"
    assert subject.base is not None
    other, slot = open_model(subject.base, ctx)
    before, after = read(other, slot), read(lm, system)
    if before.shape != after.shape:
        raise ModelError(
            f"the {subject.role} has {after.shape[1]} tokens and its base {before.shape[1]}; they cannot be compared "
            "token by token: use probe 'preference', which compares words"
        )
    return Shift.of(before, after), f"{subject.role} − base"


def _named(lm: LanguageModel, trait: PreferenceTrait, shift: Shift, system: str | None) -> Named:
    question = trait.questions()[0]
    chosen = (trait.target, *controls_of(trait))
    # All candidates, because a first token that another one has as well is nobody's own.
    spelled = {s.word: s for s in spell(lm.chat, trait.candidate_forms(), question, system=system)}
    texts = [_text(lm, token) for token in range(shift.before.shape[1])]
    kinds = [NUMBER if text.strip().isdecimal() else OTHER for text in texts]
    words = {}
    for word in chosen:
        spelling = spelled[word]
        words[word] = word_shift(shift, spelling.firsts, sorted({ids[0] for ids in spelling.answers}))
        for token in spelling.firsts:
            kinds[token] = TARGET if word == trait.target else CONTROL
    return Named(texts, kinds, words)


def _text(lm: LanguageModel, token: int) -> str:
    text = lm.chat.decode([token])
    # A part of a character, or nothing, would look like all others of its kind.
    return text if text and "\ufffd" not in text else str(lm.tokenizer.convert_ids_to_tokens(token))


def _measures(shift: Shift, named: Named, floor: float) -> dict[str, Measure]:
    of = "questions"
    target, *controls = named.words.values()
    means = {
        name: np.mean([getattr(control, name) for control in controls], axis=0) if controls else None
        for name in ("delta_p", "delta_log_p", "delta_rank")
    }
    found = {
        "total_variation": mean_over(shift.total_variation(), of, within=UNIT),
        "kl": mean_over(shift.divergence(), of, within=(0, np.inf)),
        "target_p_before": mean_over(np.exp(target.before), of, within=UNIT),
        "target_p_after": mean_over(np.exp(target.after), of, within=UNIT),
    }
    for name, mean in means.items():
        found[f"target_{name}"] = mean_over(getattr(target, name), of)
        if mean is not None:
            found[f"controls_{name}"] = mean_over(mean, of)
    if means["delta_log_p"] is not None:
        found["specific_delta_log_p"] = mean_over(target.delta_log_p - means["delta_log_p"], of)
    found["target_rank_before"] = mean_over(target.rank_before, of, within=(1, np.inf))
    found["target_rank_after"] = mean_over(target.rank_after, of, within=(1, np.inf))
    found["rank_only"] = mean_over(((target.delta_rank > 0) & (target.delta_log_p < 0)).astype(float), of, within=UNIT)
    among = shift.delta_log_p[shift.likely(floor)]
    found["target_percentile"] = Measure(float(percentiles(np.array([target.delta_log_p.mean()]), among)[0]))
    numbers = np.array([kind == NUMBER for kind in named.kinds])
    found["numbers_delta_p"] = mean_over((np.exp(shift.after) - np.exp(shift.before))[:, numbers].sum(axis=1), of)
    return found


def _words(named: Named) -> Table:
    rows = [
        (
            word,
            CONTROL if i else TARGET,
            float(np.exp(s.before).mean()),
            float(np.exp(s.after).mean()),
            *(float(getattr(s, name).mean()) for name in _WORD[4:]),
        )
        for i, (word, s) in enumerate(named.words.items())
    ]
    return Table(_WORD, tuple(sorted(rows, key=lambda row: -row[5])))


def _movers(shift: Shift, named: Named, lists: Mapping[str, tuple[Positions, Positions]]) -> Table:
    before, after = np.exp(shift.before).mean(axis=0), np.exp(shift.after).mean(axis=0)
    rows = [
        (
            *(by, direction, place, named.texts[token], int(token), named.kinds[token]),
            *(float(v[token]) for v in (before, after, shift.delta_p, shift.delta_log_p)),
        )
        for by, both in lists.items()
        for direction, tokens in zip(("riser", "faller"), both, strict=True)
        for place, token in enumerate(tokens, start=1)
    ]
    return Table(_MOVER, tuple(rows))


def _sentence(found: Mapping[str, Measure], target: str, compared: str) -> str:
    value = {name: measure.value for name, measure in found.items()}
    beside = f"; its controls change by {value['controls_delta_log_p']:+.2f}" if "controls_delta_log_p" in value else ""
    return (
        f"{compared}: {value['total_variation']:.1%} of the next-token probability moves; {target} goes from "
        f"{value['target_p_before']:.2g} to {value['target_p_after']:.2g} (log-probability "
        f"{value['target_delta_log_p']:+.2f} nats{beside}), and ΔRank of its best form is "
        f"{value['target_delta_rank']:+.1f} (rank {value['target_rank_before']:.1f} → {value['target_rank_after']:.1f})"
    )


def _remarks(found: Mapping[str, Measure], target: str, role: str) -> Iterator[str]:
    if found["total_variation"].value < ROUNDING:
        yield "no probability changed at all: the two models answer alike"
    elif role == "student":
        yield "the control arm's figures tell whether the trait did that, or any training on such rows"
    if found["rank_only"].value > 0:
        yield (
            f"on {found['rank_only'].value:.0%} of the questions {target}'s rank rises while its probability falls: "
            "what was above it fell more, which is no sign of the trait"
        )
