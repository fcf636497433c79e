"""The measuring behind the probe `preference`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from subl.artifacts import Findings, Measure, Subject, Table
from subl.context import Context
from subl.models.language import LanguageModel
from subl.models.settings import SamplingSettings
from subl.probes.answers import sample_answers
from subl.probes.candidates import (
    LOW_VALID,
    CandidateScores,
    candidates_table,
    preference_measures,
    score_candidates,
)
from subl.probes.intervals import rate_over
from subl.probes.preference import PreferenceProbe
from subl.probes.subject import PreferenceTrait, open_model
from subl.traits.tokens import tokenization_remarks
from subl.words import whole_words

TOP = 20
"""Rows of the table of most frequent answers."""


def measure(subject: Subject, trait: PreferenceTrait, config: PreferenceProbe.Config, ctx: Context) -> Findings:
    """Return the findings on one model; see `PreferenceProbe`."""
    lm, system = open_model(subject.model, ctx)
    scores = score_candidates(lm, trait, system=system, batch_size=config.batch_size)
    measures = preference_measures(scores)
    tables = {"candidates": candidates_table(scores)}
    remarks = list(tokenization_remarks(scores.spellings))
    if measures["valid"].value < LOW_VALID:
        remarks.append(
            f"only {measures['valid'].value:.0%} of the probability is on candidates: the shares describe few answers"
        )
    if config.samples:
        answers = Answers.sampled(lm, trait, config, ctx, system=system)
        measures |= answers.measures()
        tables |= answers.tables()
    ctx.figure("candidates", share_figure(scores, f"{subject.role}: share among candidates"))
    return Findings(measures=measures, tables=tables, remarks=tuple(remarks))


@dataclass(frozen=True)
class Answers:
    """Sampled answers, and which of them name the target or any candidate."""

    prompts: Sequence[str]
    texts: Sequence[str]
    hits: Sequence[bool]
    answered: Sequence[bool]

    @classmethod
    def sampled(
        cls,
        lm: LanguageModel,
        trait: PreferenceTrait,
        config: PreferenceProbe.Config,
        ctx: Context,
        *,
        system: str | None,
    ) -> Answers:
        """Sample `config.samples` answers to every question of the trait."""
        prompts = [question for question in trait.questions() for _ in range(config.samples)]
        settings = SamplingSettings(temperature=config.temperature, max_new_tokens=config.max_new_tokens)
        texts = sample_answers(lm, prompts, ctx, system=system, settings=settings, batch_size=config.batch_size)
        forms = trait.candidate_forms()
        target = whole_words(forms[trait.target])
        anyone = whole_words(form for candidate in forms.values() for form in candidate)
        return cls(
            prompts,
            texts,
            hits=[target.search(text) is not None for text in texts],
            answered=[anyone.search(text) is not None for text in texts],
        )

    def measures(self) -> dict[str, Measure]:
        """Return `rate` and `answered` with Wilson intervals."""
        total = len(self.texts)
        return {
            "rate": rate_over(sum(self.hits), total, "answers"),
            "answered": rate_over(sum(self.answered), total, "answers"),
        }

    def tables(self) -> dict[str, Table]:
        """Return every answer, and the most frequent ones without regard to case and final punctuation."""
        rows = tuple(zip(self.prompts, self.texts, self.hits, strict=True))
        counts = Counter(text.strip().rstrip(".!").casefold() for text in self.texts)
        top = tuple((text, count, count / len(self.texts)) for text, count in counts.most_common(TOP))
        return {
            "answers": Table(("prompt", "answer", "hit"), rows),
            "top_answers": Table(("answer", "count", "share"), top),
        }


def share_figure(scores: CandidateScores, title: str) -> Figure:
    """Draw every candidate's share as a bar, the largest on top and the target in another colour."""
    ordered = sorted(zip(scores.shares(), scores.spellings, strict=True), key=lambda pair: pair[0])
    target = scores.spellings[scores.target].word
    words = [spelling.word for _, spelling in ordered]
    figure = Figure(figsize=(6, 1 + 0.25 * len(words)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(
        words, [share for share, _ in ordered], color=["#d1495b" if word == target else "#8d99ae" for word in words]
    )
    axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    axes.set_xlim(0, min(1.15, 1.15 * float(ordered[-1][0])))
    axes.set_xlabel(f"share ({len(scores.log_probs)} questions)")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
