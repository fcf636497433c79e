"""How strongly a model shows a trait, in terms that all kinds of traits share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from subl.artifacts import Measure, Table
from subl.models.language import LanguageModel
from subl.probes.candidates import candidates_table, preference_measures, score_candidates
from subl.probes.stereotype_measuring import score_items
from subl.probes.stereotype_statistics import graded_measures, stereotype_measures
from subl.probes.subject import AssociationTrait, PreferenceTrait
from subl.traits.tokens import tokenization_remarks, tokenization_table

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reading:
    """What one model makes of a trait.

    Args:
        share: The trait's part of the probability of all answers that compete.
        valid: How much the model still answers like that at all, from 0 to 1.
        parts: Numerators and denominators of the share, one per unit: Σ numerators / Σ denominators is the share.
        of: What the units are, in the plural.
        among: What competes, in words: "16 candidates".
        lost: What a model without valid answers has done, in words.
        teach: The setting that says what it is taught.
        tables: Details.
        remarks: What limits the reading.
    """

    share: Measure
    valid: Measure
    parts: tuple[Floats, Floats]
    of: str
    among: str
    lost: str
    teach: str
    tables: Mapping[str, Table] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def read(
    lm: LanguageModel, trait: PreferenceTrait | AssociationTrait, *, system: str | None, batch_size: int
) -> Reading:
    """Return the reading of a model.

    Args:
        lm: The model.
        trait: Any trait of a kind that can be read.
        system: System slot of the questions.
        batch_size: Sequences per forward pass; changes speed only.
    """
    if isinstance(trait, PreferenceTrait):
        return _preference(lm, trait, system, batch_size)
    return _association(lm, trait, system, batch_size)


def _preference(lm: LanguageModel, trait: PreferenceTrait, system: str | None, batch_size: int) -> Reading:
    scores = score_candidates(lm, trait, system=system, batch_size=batch_size)
    measures = preference_measures(scores)
    return Reading(
        share=measures["share"],
        valid=measures["valid"],
        parts=scores.target_and_all,
        of="questions",
        among=f"{len(trait.candidates)} candidates",
        lost="lost the habit of answering with a candidate (the probability of it)",
        teach='e.g. trait.answers = ["{target}"]',
        tables={
            "candidates": candidates_table(scores),
            "tokenization": tokenization_table(scores.spellings, lm.chat),
        },
        remarks=tokenization_remarks(scores.spellings),
    )


def _association(lm: LanguageModel, trait: AssociationTrait, system: str | None, batch_size: int) -> Reading:
    found = score_items(lm, trait.items(), prompt=None, system=system, per_token=False, batch_size=batch_size)
    terms, taught = found.terms(), trait.target != "anti-stereotype"
    share = terms.share if taught else 1 - terms.share
    return Reading(
        share=graded_measures(terms, stereotype=taught)["share"],
        valid=stereotype_measures(terms)["valid"],
        parts=(share, np.ones_like(share)),
        of="terms",
        among="two opposites",
        lost="no longer tells sense from nonsense (0 is chance, 1 the ideal)",
        teach="trait.training",
    )
