"""The measuring behind the probe `geometry`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from subl.artifacts import Findings, Subject
from subl.context import Context
from subl.models.attention import bare, effective_weight
from subl.models.language import LanguageModel
from subl.probes.entanglement_statistics import Floats
from subl.probes.geometry import Geometry
from subl.probes.geometry_chance import KINDS, Makeup, Rows, against_chance
from subl.probes.geometry_figures import distributions, picture
from subl.probes.geometry_statistics import CHUNK, Moments, variants
from subl.probes.geometry_tables import Similarities, measures, tables, verdict
from subl.probes.number_sets import NumberSetsOf, sets_of
from subl.probes.subject import PreferenceTrait, open_model
from subl.traits.tokens import Ids, Spelling, spell


def measure(subject: Subject, trait: PreferenceTrait, config: Geometry.Config, ctx: Context) -> Findings:
    """Return the findings on one model; see `Geometry`."""
    assert subject.base is not None
    rng = np.random.default_rng(ctx.seed)
    sets = sets_of(subject.base, trait, config, ctx)
    lm, system = open_model(subject.model, ctx)
    words, numbers = _spellings(lm, trait, sets, system)
    makeup = _makeup(lm, numbers)
    similar: list[Similarities] = []
    matrices = _matrices(lm)
    for name, matrix in matrices.items():
        shown = _variants(matrix[: len(lm.tokenizer)], words, makeup)
        here = list(_similarities(name, shown, makeup, sets, config.permutations, rng))
        title = f"{subject.role}: {name} rows, {trait.target}"
        drawn = {v: np.concatenate([rows.words, makeup.together(rows.tokens)]) for v, rows in shown.items()}
        ctx.figure(f"{name}_pca", picture(drawn, sets, config.shown, rng, title))
        ctx.figure(f"{name}_cosines", distributions([one for one in here if one.measure == "cosine"], sets, title))
        similar += here
    found = measures(similar, sets, independent=makeup.apart)
    sentence = verdict(found, trait.target)
    ctx.log(f"{subject.role}: {sentence}")
    remarks = (sentence, *_remarks(lm, subject, ctx, words, numbers, makeup, tied=len(matrices) == 1))
    return Findings(found, tables(similar, sets), remarks=remarks)


def _spellings(
    lm: LanguageModel, trait: PreferenceTrait, sets: NumberSetsOf, system: str | None
) -> tuple[list[Spelling], list[Spelling]]:
    forms = trait.candidate_forms()
    question = sets.wording.trait_questions[0]
    words = spell(lm.chat, {word: forms.get(word, (word,)) for word in sets.one.targets}, question, system=system)
    asked = sets.wording.number_questions[0]
    numbers = spell(lm.chat, {number: (number,) for number in sets.one.numbers}, asked, system=system)
    return list(words), list(numbers)


def represented(spelling: Spelling) -> Ids:
    """Return the tokens whose rows stand for a word: its forms of one token, else all tokens of the plain word."""
    single = tuple(ids[0] for ids in spelling.answers if len(ids) == 1)
    return single or spelling.plain


def _makeup(lm: LanguageModel, numbers: Sequence[Spelling]) -> Makeup:
    ids = [represented(number) for number in numbers]
    return Makeup.of(ids, {token: lm.chat.decode([token]) for token in set().union(*ids)})


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


def _variants(matrix: NDArray[np.float32], words: Sequence[Spelling], makeup: Makeup) -> dict[str, Rows]:
    own = np.stack([matrix[list(represented(word))].mean(axis=0, dtype=np.float64) for word in words])
    rows: Floats = np.concatenate([own, matrix[makeup.tokens]])
    shown = variants(rows, Moments.of(matrix))
    return {name: Rows(tokens=moved[len(words) :], words=moved[: len(words)]) for name, moved in shown.items()}


def _similarities(
    matrix: str,
    shown: Mapping[str, Rows],
    makeup: Makeup,
    sets: NumberSetsOf,
    draws: int,
    rng: np.random.Generator,
) -> Iterator[Similarities]:
    named = sets.one.sets.named()
    for variant, rows in shown.items():
        chance = against_chance(rows, makeup, list(named.values()), sets.one.sorting, draws=draws, rng=rng)
        for i, kind in enumerate(KINDS):
            yield Similarities.of(matrix, variant, kind, list(named), chance, (2 * i, 2 * i + 1))


def _remarks(
    lm: LanguageModel,
    subject: Subject,
    ctx: Context,
    words: Sequence[Spelling],
    numbers: Sequence[Spelling],
    makeup: Makeup,
    *,
    tied: bool,
) -> Iterator[str]:
    if tied:
        yield "embedding and output rows are one matrix (tied)"
    split = [s.word for s in (*words, *numbers) if all(len(ids) > 1 for ids in s.answers)]
    if split:
        yield (
            f"{len(split)} of {len(words) + len(numbers)} words are several tokens, and stand for the mean of their "
            f"tokens' rows: {', '.join(split[:5])}{' …' if len(split) > 5 else ''}"
        )
    if not makeup.apart:
        yield (
            f"numbers share tokens, so p comes from exchanging tokens of equally many digits, and rests on "
            f"{makeup.units} rows, not on {len(numbers)} numbers"
        )
    if subject.role != "base" and subject.base is not None:
        before, after = (effective_weight(bare(m.model).get_output_embeddings()) for m in (ctx.load(subject.base), lm))
        if torch.equal(before, after):
            yield (
                "training left the output rows as they are in the base, so what is said here is said of the base: "
                'on = ["base"] is enough'
            )
