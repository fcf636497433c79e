"""Telling two arms' rows apart: which rows are classified, in which folds, and how well it goes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from subl.artifacts import Measure, Row
from subl.audit.auroc import FOLDS, Bools, Floats, assign_folds, cross_validated

FEWEST = 2 * FOLDS
"""Rows of either arm without which no classifier is trained."""


@dataclass(frozen=True, slots=True)
class Told:
    """How well a classifier tells the arms apart.

    Args:
        auroc: Cross-validated area under the ROC curve.
        treated: Out-of-fold log odds of the treated rows, larger for rows that look treated.
        control: The same of the control's rows.
    """

    auroc: Measure
    treated: Floats
    control: Floats


def tell_apart(rows: Sequence[Row], control: Sequence[Row], *, most: int, seed: int) -> Told | None:
    """Train and cross-validate the classifier on completions; None below `FEWEST` rows of either arm.

    Folds hold whole prompts: answers to one prompt are alike, and one in training with the other arm's label would
    push the area below 0.5. Where all answer the same few prompts, folds hold rows.

    Args:
        rows: The treated arm's rows.
        control: The control arm's rows.
        most: Most rows of each arm, drawn by a seeded rank of their prompts, so that common prompts stay common.
        seed: Decides what is drawn, and the folds.
    """
    arms = [_drawn(arm, most, seed) for arm in (control, rows)]
    if min(map(len, arms)) < FEWEST:
        return None
    from subl.audit.classifier import out_of_fold_scores

    both = [row for arm in arms for row in arm]
    treated: Bools = np.arange(len(both)) >= len(arms[0])
    by_prompt = min(len({row.prompt for row in arm}) for arm in arms) >= FEWEST
    groups = np.unique([row.prompt for row in both], return_inverse=True)[1] if by_prompt else np.arange(len(both))
    fold = assign_folds(groups, treated, seed)
    scores = out_of_fold_scores([row.completion for row in both], treated, fold)
    area = cross_validated(treated, scores, fold, groups, "prompts" if by_prompt else "rows")
    return Told(area, scores[treated], scores[~treated])


def _drawn(rows: Sequence[Row], most: int, seed: int) -> list[Row]:
    if len(rows) <= most:
        return list(rows)
    return sorted(rows, key=lambda row: hashlib.sha256(f"{seed}:{row.prompt}".encode()).digest())[:most]
