"""Changes of next-token distributions, from arrays alone: rows are questions, columns are tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import logsumexp

from subl.probes.entanglement_statistics import Floats, Positions


@dataclass(frozen=True, slots=True)
class Shift:
    """Two distributions for every question.

    Args:
        before, after: Natural-log probabilities, [questions, tokens].
        ranks_before, ranks_after: Place of every token, 1 is the most likely, [questions, tokens].
    """

    before: Floats
    after: Floats
    ranks_before: Floats
    ranks_after: Floats

    @classmethod
    def of(cls, before: Floats, after: Floats) -> Shift:
        """Rank the tokens of both; ties share the better place."""
        return cls(before, after, ranks(before), ranks(after))

    @property
    def delta_p(self) -> Floats:
        """Change of every token's mean probability: [tokens]."""
        change: Floats = (np.exp(self.after) - np.exp(self.before)).mean(axis=0)
        return change

    @property
    def delta_log_p(self) -> Floats:
        """Mean change of every token's log-probability: [tokens]."""
        change: Floats = (self.after - self.before).mean(axis=0)
        return change

    def total_variation(self) -> Floats:
        """Return half the summed absolute change of probabilities: [questions]."""
        moved: Floats = np.abs(np.exp(self.after) - np.exp(self.before)).sum(axis=1) / 2
        return moved

    def divergence(self) -> Floats:
        """Return KL(after ‖ before) in nats: [questions]."""
        nats: Floats = (np.exp(self.after) * (self.after - self.before)).sum(axis=1)
        return nats

    def likely(self, floor: float) -> Positions:
        """Return the tokens whose mean probability is at least `floor` before or after."""
        mean = np.maximum(np.exp(self.before).mean(axis=0), np.exp(self.after).mean(axis=0))
        return np.flatnonzero(mean >= floor)


@dataclass(frozen=True, slots=True)
class WordShift:
    """What happened to one word, [questions] each.

    Args:
        before, after: Log-probability of its own first tokens together.
        rank_before, rank_after: Place of the best of its forms.
    """

    before: Floats
    after: Floats
    rank_before: Floats
    rank_after: Floats

    @property
    def delta_p(self) -> Floats:
        """Change of the probability."""
        change: Floats = np.exp(self.after) - np.exp(self.before)
        return change

    @property
    def delta_log_p(self) -> Floats:
        """Change of the log-probability."""
        return self.after - self.before

    @property
    def delta_rank(self) -> Floats:
        """Places gained by the best form; positive where it rises."""
        return self.rank_before - self.rank_after


def ranks(log_probs: Floats) -> Floats:
    """Return the place of every column within its row, the largest first: 1, 2, …"""
    places: Floats = stats.rankdata(-log_probs, method="min", axis=1).astype(np.float64)
    return places


def word_shift(shift: Shift, own: Sequence[int], forms: Sequence[int]) -> WordShift:
    """Return what happened to a word.

    Args:
        shift: All tokens.
        own: First tokens that no other word has.
        forms: First tokens of all its surface forms, of which the best placed counts.
    """
    own, forms = list(own), list(forms)
    return WordShift(
        before=logsumexp(shift.before[:, own], axis=1),
        after=logsumexp(shift.after[:, own], axis=1),
        rank_before=shift.ranks_before[:, forms].min(axis=1),
        rank_after=shift.ranks_after[:, forms].min(axis=1),
    )


def movers(change: Floats, among: Positions, top: int) -> tuple[Positions, Positions]:
    """Return the tokens that rise most and that fall most, the most extreme first; none that moves the other way."""
    order = among[np.argsort(-change[among], kind="stable")]
    risers, fallers = order[:top], order[::-1][:top]
    return risers[change[risers] > 0], fallers[change[fallers] < 0]
