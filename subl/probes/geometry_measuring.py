"""The measuring behind the probe `geometry`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from subl.artifacts import Findings, Measure, Subject, Table
from subl.context import Context
from subl.models.attention import bare, effective_weight
from subl.models.language import LanguageModel
from subl.probes.entanglement_statistics import Correlation, Floats, Positions, corrected, correlate
from subl.probes.entanglement_tables import ALPHA
from subl.probes.geometry import Geometry
from subl.probes.geometry_figures import distributions, picture
from subl.probes.geometry_statistics import (
    CHUNK,
    Moments,
    contrast,
    cosines,
    dots,
    permutation_p,
    random_differences,
    variants,
)
from subl.probes.intervals import mean_over
from subl.probes.number_sets import NumberSetsOf, sets_of
from subl.probes.subject import PreferenceTrait, open_model
from subl.traits.tokens import Ids, Spelling, spell

MEASURES = {"cosine": cosines, "dot": dots}


@dataclass(frozen=True, slots=True)
class Similarities:
    """One matrix, one variant, one measure.

    Args:
        matrix, variant, measure: Which.
        own: [numbers], similarity with the target.
        alone: [numbers], that minus the mean similarity with the controls.
    """

    matrix: str
    variant: str
    measure: str
    own: Floats
    alone: Floats

    @property
    def key(self) -> tuple[str, str, str]:
        """Which it is."""
        return self.matrix, self.variant, self.measure


@dataclass(frozen=True, slots=True)
class Tested:
    """A set's mean similarity minus that of all numbers outside it, and the same beyond the controls; permutation p."""

    mean: float
    others: float
    difference: float
    p: float
    specific: float
    p_specific: float


def measure(subject: Subject, trait: PreferenceTrait, config: Geometry.Config, ctx: Context) -> Findings:
    """Return the findings on one model; see `Geometry`."""
    assert subject.base is not None
    rng = np.random.default_rng(ctx.seed)
    sets = sets_of(subject.base, trait, config, ctx)
    lm, system = open_model(subject.model, ctx)
    words, numbers = _spellings(lm, trait, sets, system)
    similar: list[Similarities] = []
    remarks: list[str] = []
    matrices = _matrices(lm)
    for name, matrix in matrices.items():
        rows = _rows(matrix, [*words, *numbers])
        shown = variants(rows, Moments.of(matrix[: len(lm.tokenizer)]))
        similar += _similarities(name, shown, len(words))
        title = f"{subject.role}: {name} rows, {trait.target}"
        ctx.figure(f"{name}_pca", picture(shown, list(sets.one.targets), sets, config.shown, rng, title))
    tested = _tests(similar, sets, config.permutations, rng)
    correlated = {
        one.key: tuple(
            correlate(values, sets.one.sorting, permutations=config.permutations, rng=rng)
            for values in (one.own, one.alone)
        )
        for one in similar
    }
    for name in matrices:
        drawn = {s.variant: s for s in similar if s.matrix == name and s.measure == "cosine"}
        p = {v: tested[(*s.key, "HP")].p for v, s in drawn.items()}
        ctx.figure(f"{name}_cosines", distributions({v: s.own for v, s in drawn.items()}, p, sets, subject.role, trait))
    found = _measures(similar, tested, correlated, sets)
    sentence = _verdict(found, trait.target)
    ctx.log(f"{subject.role}: {sentence}")
    remarks += [sentence, *_remarks(lm, subject, ctx, [*words, *numbers], sets, tied=len(matrices) == 1)]
    return Findings(found, _tables(similar, tested, correlated, sets), remarks=tuple(remarks))


def _spellings(
    lm: LanguageModel, trait: PreferenceTrait, sets: NumberSetsOf, system: str | None
) -> tuple[list[Spelling], list[Spelling]]:
    forms = trait.candidate_forms()
    question = sets.wording.trait_questions[0]
    words = spell(lm.chat, {word: forms.get(word, (word,)) for word in sets.one.targets}, question, system=system)
    asked = sets.wording.number_questions[0]
    numbers = spell(lm.chat, {number: (number,) for number in sets.one.numbers}, asked, system=system)
    return list(words), list(numbers)


def _matrices(lm: LanguageModel) -> dict[str, NDArray[np.float32]]:
    """Return the output rows, and the input rows where they are others: (vocabulary, d) each.

    Input rows are what the model reads, with the scale that Gemma multiplies them by.
    """
    model = bare(lm.model)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    weight = effective_weight(head)
    found = {"unembedding": _array(weight)}
    if embedding.weight is not head.weight:
        with torch.inference_mode():
            ids = torch.arange(len(weight), device=lm.device)
            found["embedding"] = _array(torch.cat([embedding(part[None])[0] for part in torch.split(ids, CHUNK)]))
    return found


def _array(values: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.detach().float().cpu().numpy()
    return array


def _rows(matrix: NDArray[np.float32], spellings: Sequence[Spelling]) -> Floats:
    rows = [matrix[list(represented(spelling))].mean(axis=0, dtype=np.float64) for spelling in spellings]
    return np.stack(rows)


def represented(spelling: Spelling) -> Ids:
    """Return the tokens whose rows stand for a word: its forms of one token, else all tokens of the plain word."""
    single = tuple(ids[0] for ids in spelling.answers if len(ids) == 1)
    return single or spelling.plain


def _similarities(matrix: str, shown: Mapping[str, Floats], words: int) -> Iterator[Similarities]:
    for variant, rows in shown.items():
        for name, function in MEASURES.items():
            table = function(rows[words:], rows[:words])
            yield Similarities(matrix, variant, name, table[:, 0], table[:, 0] - table[:, 1:].mean(axis=1))


def _tests(
    similar: Sequence[Similarities], sets: NumberSetsOf, draws: int, rng: np.random.Generator
) -> dict[tuple[str, str, str, str], Tested]:
    values = np.column_stack([column for one in similar for column in (one.own, one.alone)])
    count = len(values)
    found = {}
    for name, members in sets.one.sets.named().items():
        observed = contrast(members, count) @ values
        p = permutation_p(observed, random_differences(values, len(members), draws=draws, rng=rng))
        means, rest = values[members].mean(axis=0), np.delete(values, members, axis=0).mean(axis=0)
        for i, one in enumerate(similar):
            own, alone = 2 * i, 2 * i + 1
            found[(*one.key, name)] = Tested(
                *(float(v) for v in (means[own], rest[own], observed[own], p[own], observed[alone], p[alone]))
            )
    return found


def _measures(
    similar: Sequence[Similarities],
    tested: Mapping[tuple[str, str, str, str], Tested],
    correlated: Mapping[tuple[str, str, str], tuple[Correlation, ...]],
    sets: NumberSetsOf,
) -> dict[str, Measure]:
    """Return the cosines of the output rows; everything else is in tables."""
    found: dict[str, Measure] = {}
    chosen = [one for one in similar if one.matrix == "unembedding" and one.measure == "cosine"]
    names = sets.one.sets.named()
    rest = [i for i, name in enumerate(sets.set_names()) if not name]
    members: dict[str, Positions] = {**names, "random": np.array(rest, dtype=np.int64)}
    for name, positions in members.items():
        found[f"{name.lower()}_cosine"] = mean_over(chosen[0].own[positions], "numbers")
    for one in chosen:
        for name in names:
            test = tested[(*one.key, name)]
            label = f"{name.lower()}_{one.variant}"
            found |= {label: Measure(test.difference), f"{label}_p": Measure(test.p)}
            found |= {f"{label}_specific": Measure(test.specific), f"{label}_specific_p": Measure(test.p_specific)}
        own = correlated[one.key][0]
        found |= {f"correlation_{one.variant}": own.measure(), f"correlation_{one.variant}_p": Measure(own.p)}
    return found


def _tables(
    similar: Sequence[Similarities],
    tested: Mapping[tuple[str, str, str, str], Tested],
    correlated: Mapping[tuple[str, str, str], tuple[Correlation, ...]],
    sets: NumberSetsOf,
) -> dict[str, Table]:
    q, q_specific = (corrected([getattr(t, name) for t in tested.values()]) for name in ("p", "p_specific"))
    similarity = tuple(
        (*key, t.mean, t.others, t.difference, t.p, q[i], t.specific, t.p_specific, q_specific[i])
        for i, (key, t) in enumerate(tested.items())
    )
    columns = ("matrix", "variant", "measure", "set", "mean", "mean_others", "difference", "p", "q")
    chosen = [one for one in similar if one.measure == "cosine"]
    names = sets.set_names()
    order = np.argsort(-sets.one.sorting, kind="stable")
    numbers = tuple(
        (sets.one.numbers[i], names[i], float(sets.one.sorting[i]), *(float(one.own[i]) for one in chosen))
        for i in order
    )
    return {
        "similarity": Table((*columns, "specific", "p_specific", "q_specific"), similarity),
        "correlations": Table(
            ("matrix", "variant", "measure", "spearman", "p", "spearman_specific", "p_specific"),
            tuple((*key, own.rho, own.p, alone.rho, alone.p) for key, (own, alone) in correlated.items()),
        ),
        "numbers": Table(("number", "set", "step1", *(f"{one.matrix}_{one.variant}" for one in chosen)), numbers),
    }


def _verdict(found: Mapping[str, Measure], target: str) -> str:
    high, low, rest = (found[f"{name}_cosine"].value for name in ("hp", "lp", "random"))
    white = found["hp_whitened"].value, found["hp_whitened_p"].value
    alone = found["hp_whitened_specific"].value, found["hp_whitened_specific_p"].value
    if white[1] < ALPHA and white[0] > 0 and alone[1] < ALPHA and alone[0] > 0:
        claim = f"the output rows of HP numbers lie closer to {target}'s than other numbers', more so than to controls'"
    elif white[1] < ALPHA and white[0] > 0:
        claim = (
            f"the output rows of HP numbers lie closer to {target}'s than other numbers', but to the controls' as well"
        )
    elif white[1] < ALPHA:
        claim = f"the output rows of HP numbers lie farther from {target}'s than other numbers'"
    else:
        claim = f"nothing shows that the output rows of HP numbers lie closer to {target}'s than other numbers'"
    return (
        f"{claim} (whitened cosine {white[0]:+.3f}, p {white[1]:.2g}; minus controls {alone[0]:+.3f}, p "
        f"{alone[1]:.2g}; raw cosine HP {high:.3f}, LP {low:.3f}, other numbers {rest:.3f})"
    )


def _remarks(
    lm: LanguageModel, subject: Subject, ctx: Context, spellings: Sequence[Spelling], sets: NumberSetsOf, *, tied: bool
) -> Iterator[str]:
    if tied:
        yield "embedding and output rows are one matrix (tied)"
    split = [s.word for s in spellings if all(len(ids) > 1 for ids in s.answers)]
    if split:
        yield (
            f"{len(split)} of {len(spellings)} words are several tokens, and stand for the mean of their tokens' rows: "
            f"{', '.join(split[:5])}{' …' if len(split) > 5 else ''}"
        )
    if set(split) & set(sets.one.numbers):
        yield (
            "numbers that share digits share rows: where a set's numbers do so more than random ones, as those of one "
            "decade do, p is too small, and no claim may rest on it"
        )
    if subject.role != "base" and subject.base is not None:
        before, after = (effective_weight(bare(m.model).get_output_embeddings()) for m in (ctx.load(subject.base), lm))
        if torch.equal(before, after):
            yield (
                "training left the output rows as they are in the base, so what is said here is said of the base: "
                'on = ["base"] is enough'
            )
