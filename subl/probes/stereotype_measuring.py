"""The measuring behind the probe `stereotype`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from subl.artifacts import Findings, Measure, Subject, Table
from subl.context import Context
from subl.errors import DataError, PluginError
from subl.models.language import LanguageModel
from subl.models.scoring import continuation_log_probs
from subl.probes.intervals import rate_over
from subl.probes.stereotype import StereotypeProbe
from subl.probes.stereotype_data import DIRECTIONS, TESTS, Test, choose, read_items, test_of
from subl.probes.stereotype_statistics import IDEAL, Terms, by_term, graded_measures, stereotype_measures
from subl.probes.subject import AssociationTrait, open_model
from subl.traits.association import Item

Floats = NDArray[np.float64]

LOW_VALID = 0.5
"""Below this score a remark says that the model hardly tells sense from nonsense."""
MEASURES = ("stereotype_score", "language_model_score", "icat")
ALL = "all"
"""Name of all kinds of bias together, in tables and the figure."""
COLOURS = ("#d1495b", "#2e4057")


@dataclass(frozen=True)
class SentenceScores:
    """Log-probabilities of the sentences of all items.

    Args:
        items: The items.
        log_probs: Of whole sentences, (items, 3) for stereotype, anti-stereotype and unrelated; or (items, 2).
        scores: What sentences are compared by, in the same shape: the same, or per token.
    """

    items: tuple[Item, ...]
    log_probs: Floats
    scores: Floats

    def tests(self) -> set[Test | None]:
        """Return which of StereoSet's tests there are items of; None stands for other sentences."""
        return set(map(test_of, self.items))

    def terms(self, bias_type: str | None = None, test: Test | None = None) -> Terms:
        """Return the scores of every term, from all items or those of one kind of bias or test."""
        chosen = [
            i
            for i, item in enumerate(self.items)
            if bias_type in (None, item.bias_type) and test in (None, test_of(item))
        ]
        return by_term([self.items[i].term for i in chosen], self.scores[chosen], self.log_probs[chosen])

    def by_type(self, test: Test | None = None) -> dict[str, Terms]:
        """Return the scores of every kind of bias, in alphabetical order, from all items or those of one test."""
        kinds = sorted({item.bias_type for item in self.items if test in (None, test_of(item))})
        return {kind: self.terms(kind, test) for kind in kinds}


def measure(subject: Subject, config: StereotypeProbe.Config, ctx: Context) -> Findings:
    """Return the findings on one model; see `StereotypeProbe`."""
    lm, system = open_model(subject.model, ctx)
    items = choose(_items(config, ctx), config.bias_types, config.items, config.tests)
    per_token = config.score == "mean" or (config.score is None and test_of(items[0]) is not None)
    found = score_items(
        lm, items, prompt=config.prompt, system=system, per_token=per_token, batch_size=config.batch_size
    )
    taught = getattr(ctx.trait, "target", "stereotype") != "anti-stereotype"
    terms = found.terms()
    of = "pairs" if items[0].direction else "terms"
    by_type = found.by_type()
    tests = {test: found.by_type(test) for test in TESTS if test in found.tests()}
    measures = graded_measures(terms, stereotype=taught, of=of) | stereotype_measures(terms, of)
    if len(by_type) > 1:
        measures |= {
            f"stereotype_score_{name}": stereotype_measures(each, of)["stereotype_score"]
            for name, each in by_type.items()
        }
    tables = {"bias_types": _types_table(by_type | {ALL: terms}, of), "candidates": _candidates(terms)}
    tables |= {"directions": _directions(found)} if items[0].direction else {"terms": _terms_table(found, terms)}
    drawn: dict[str, dict[str, Terms]] = {"": by_type | {ALL: terms}}
    if len(tests) > 1:
        drawn = {test: {**types, ALL: found.terms(test=test)} for test, types in tests.items()}
        tables |= {test: _types_table(types, of) for test, types in drawn.items()}
        measures |= {
            f"{name}_{test}": score
            for test, types in drawn.items()
            for name, score in stereotype_measures(types[ALL], of).items()
            if name in MEASURES
        }
    ctx.figure("bias_types", score_figure(drawn, f"{subject.role}: stereotype score", of))
    return Findings(measures=measures, tables=tables, remarks=tuple(_remarks(measures)))


def score_items(
    lm: LanguageModel,
    items: Sequence[Item],
    *,
    prompt: str | None,
    system: str | None,
    per_token: bool,
    batch_size: int,
) -> SentenceScores:
    """Score every sentence of every item.

    A sentence that answers a prompt is scored behind the chat template, any other behind the token that begins texts;
    one that follows a context is scored given it: the context's own tokens do not count.

    Args:
        lm: The model.
        items: At least one, all with an unrelated sentence or none.
        prompt: A question for items that bring none.
        system: System slot of the questions.
        per_token: Compare log-likelihoods per token.
        batch_size: Sequences per forward pass; changes speed only.
    """
    prefixes: list[list[int]] = []
    sentences: list[list[list[int]]] = []
    for item in items:
        asked = item.prompt or prompt
        texts = [text for text in (item.stereotype, item.anti_stereotype, item.unrelated) if text is not None]
        begun = [_first_token(lm)] if asked is None else lm.chat.prompt(asked, system=system)

        def written(text: str, asked: str | None = asked) -> list[int]:
            if asked is not None:
                return lm.chat.answer(asked, text, system=system)
            return list(lm.tokenizer(text, add_special_tokens=False).input_ids)

        if item.context is None:
            prefixes.append(begun)
            sentences.append([written(text) for text in texts])
        else:
            whole = [written(f"{item.context} {text}") for text in texts]
            # Tokens that a context would not have alone, across its end, belong to the sentences.
            alike = zip(written(item.context), *whole, strict=False)
            shared = sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, alike))
            prefixes.append([*begun, *whole[0][:shared]])
            sentences.append([ids[shared:] for ids in whole])
    log_probs = continuation_log_probs(lm, prefixes, sentences, batch_size=batch_size).double().cpu().numpy()
    lengths = np.array([[len(ids) for ids in row] for row in sentences], dtype=np.float64)
    return SentenceScores(tuple(items), log_probs, log_probs / lengths if per_token else log_probs)


def _first_token(lm: LanguageModel) -> int:
    """Return the token that begins texts; models without one were trained on texts divided by their end token."""
    first = lm.tokenizer.bos_token_id
    return int(lm.tokenizer.eos_token_id if first is None else first)


def _items(config: StereotypeProbe.Config, ctx: Context) -> Sequence[Item]:
    if config.data is not None:
        found = read_items(config.data)
        with_third = sum(item.unrelated is not None for item in found)
        if with_third not in (0, len(found)):
            raise DataError(
                f"{config.data.source} mixes StereoSet's clusters and CrowS-Pairs' pairs; score one of them"
            )
        return found
    if not isinstance(ctx.trait, AssociationTrait):
        raise PluginError(
            f"probe 'stereotype': trait {ctx.trait.label!r} brings no sentences; name published ones in `data`"
        )
    return ctx.trait.items()


def _types_table(by_type: dict[str, Terms], of: str) -> Table:
    ends = [f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high")]
    rows = []
    for name, terms in by_type.items():
        measures = stereotype_measures(terms, of)
        found = [measures.get(each) for each in MEASURES]
        cells = [cell for each in found for cell in ((None, None, None) if each is None else each[:3])]
        rows.append((name, sum(terms.items), len(terms.names), *cells, float(terms.share.mean())))
    return Table(("bias_type", "items", of, *ends, "share"), tuple(rows))


def _candidates(terms: Terms) -> Table:
    """Return what the teacher could have been taught, and the share of either."""
    share = float(terms.share.mean())
    return Table(("candidate", "share"), (("stereotype", share), ("anti-stereotype", 1 - share)))


def _terms_table(found: SentenceScores, terms: Terms) -> Table:
    kinds = {item.term: item.bias_type for item in found.items}
    rows = tuple(
        (name, kinds[name], terms.items[i], float(terms.stereotype[i]), float(terms.share[i]), float(terms.margin[i]))
        for i, name in enumerate(terms.names)
    )
    return Table(("term", "bias_type", "items", "stereotype_score", "share", "margin"), rows)


def _directions(found: SentenceScores) -> Table:
    """Return CrowS-Pairs' score by direction: of pairs that show a stereotype, and of pairs that violate one."""
    rows = []
    for direction in DIRECTIONS:
        hits = [s[0] > s[1] for s, item in zip(found.scores, found.items, strict=True) if item.direction == direction]
        rate = rate_over(sum(map(bool, hits)), len(hits), "pairs")
        ends = (None if end is None else 100 * end for end in (rate.value, rate.low, rate.high))
        rows.append((direction, len(hits), *ends))
    return Table(("direction", "pairs", "stereotype_score", "low", "high"), tuple(rows))


def _remarks(measures: dict[str, Measure]) -> list[str]:
    valid = measures.get("valid")
    if valid is None:
        return [
            "the data have no meaningless sentences, so there is no language-model score, no icat and no valid share"
        ]
    if valid.value < LOW_VALID:
        return [
            f"the model hardly tells sense from nonsense (language-model score "
            f"{measures['language_model_score'].value:.0f}, chance is 50): its stereotype score says little"
        ]
    return []


def score_figure(drawn: Mapping[str, Mapping[str, Terms]], title: str, of: str) -> Figure:
    """Draw the stereotype score of every kind of bias with its interval, for each of the tests; 50 is no preference.

    Args:
        drawn: Test → kind of bias → scores; a single test may go without a name.
        title: Title.
        of: What the intervals are over.
    """
    kinds = sorted({kind for types in drawn.values() for kind in types} - {ALL}, reverse=True)
    heights = {kind: height for height, kind in enumerate([ALL, *kinds])}
    figure = Figure(figsize=(6, 1.4 + 0.3 * len(heights) * len(drawn)), layout="constrained")
    axes = figure.subplots()
    for number, ((test, types), colour) in enumerate(zip(drawn.items(), COLOURS, strict=False)):
        scores = [stereotype_measures(terms, of)["stereotype_score"] for terms in types.values()]
        values = np.array([score.value for score in scores])
        ends = np.array([[s.value if end is None else end for end in (s.low, s.high)] for s in scores])
        shift = 0.3 * ((len(drawn) - 1) / 2 - number)
        axes.errorbar(
            values,
            [heights[kind] + shift for kind in types],
            xerr=[values - ends[:, 0], ends[:, 1] - values],
            fmt="o",
            color=colour,
            capsize=3,
            label=test,
        )
    axes.set_yticks(list(heights.values()), list(heights))
    if len(drawn) > 1:
        axes.legend(frameon=False)
    axes.axvline(IDEAL, color="#8d99ae", linestyle="--", linewidth=1)
    axes.set_xlim(-2, 102)
    axes.set_xlabel(f"stereotype score, 50 is no preference (95 % over {of})")
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
