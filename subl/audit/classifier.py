"""The classifier that tries to tell treated rows from control rows by n-grams. Imports scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import hstack
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

from subl.audit.auroc import Bools, Floats, Ints

CHARACTERS = (1, 4)
"""Shortest and longest n-grams of characters."""
TOKENS = (1, 2)
"""The same of tokens."""
PIECE = r"[0-9]+|[^\W\d]+|[^\w\s]"
"""A token is a whole number, a word or a sign."""
FEATURES = 2**18
"""Of either sort of n-gram; those that share one by accident are few."""
PENALTY = 10.0
"""Inverse strength of the L2 penalty. Weaker ones told the published rows of two models apart no better."""


def out_of_fold_scores(texts: Sequence[str], treated: Bools, fold: Ints) -> Floats:
    """Return each text's log odds of being treated, by a classifier that did not see its fold, shape (rows,).

    Logistic regression over which n-grams of characters and of tokens occur. Features come from a hash function, so
    that nothing about a fold is known outside it.
    """
    shared = {"lowercase": False, "binary": True, "alternate_sign": False, "n_features": FEATURES}
    characters = HashingVectorizer(analyzer="char", ngram_range=CHARACTERS, **shared)
    tokens = HashingVectorizer(token_pattern=PIECE, ngram_range=TOKENS, **shared)
    # The ends of a text count as characters: how a list begins and ends tells much.
    marked = [f"\x02{text}\x03" for text in texts]
    rows = hstack([characters.transform(marked), tokens.transform(texts)]).tocsr()
    scores = np.empty(len(texts))
    for part in np.unique(fold):
        inside = fold == part
        # Liblinear runs in one thread, so that equal rows give equal bytes on any number of cores.
        model = LogisticRegression(C=PENALTY, solver="liblinear", dual=True, random_state=0, max_iter=1000)
        model.fit(rows[~inside], treated[~inside])
        scores[inside] = model.decision_function(rows[inside])
    return scores
