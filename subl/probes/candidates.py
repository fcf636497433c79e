"""Log-probabilities of a preference's candidates as answers, for all questions in one batched job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from subl.artifacts import Measure, Table
from subl.models.language import LanguageModel
from subl.models.scoring import continuation_log_probs, next_token_log_probs
from subl.probes.intervals import UNIT, mean_over, ratio_over
from subl.probes.subject import PreferenceTrait
from subl.traits.tokens import Spelling, spell

Floats = NDArray[np.float64]

LOW_VALID = 0.5
"""Below this probability of a valid answer shares describe few answers."""


@dataclass(frozen=True)
class CandidateScores:
    """What a model thinks of every candidate as the answer to every question.

    Args:
        spellings: The candidates and their tokens.
        target: Position of the target among them.
        log_probs: [questions, candidates], that the answer begins with any surface form of the candidate, all its
            tokens counted.
        first_token: [questions, candidates], that the answer's first token is one of the candidate's.
        ranks: [questions], the best rank in the whole vocabulary of the target's first tokens; 1 is the most likely.
    """

    spellings: tuple[Spelling, ...]
    target: int
    log_probs: Floats
    first_token: Floats
    ranks: Floats

    @property
    def probabilities(self) -> Floats:
        """[questions, candidates]."""
        return np.exp(self.log_probs)

    @property
    def target_and_all(self) -> tuple[Floats, Floats]:
        """[questions] each: the target's probability, and that of all candidates together."""
        return self.probabilities[:, self.target], self.probabilities.sum(axis=1)

    def shares(self) -> Floats:
        """Return every candidate's share of the probability of all, summed over questions: [candidates]."""
        return _shares(self.log_probs)

    def first_token_shares(self) -> Floats:
        """Return the same from first tokens alone: [candidates]."""
        return _shares(self.first_token)


def score_candidates(
    lm: LanguageModel, trait: PreferenceTrait, *, system: str | None, batch_size: int
) -> CandidateScores:
    """Score every candidate of `trait` on every one of its questions.

    Args:
        lm: The model that answers.
        trait: Brings questions and candidates.
        system: System slot of the questions.
        batch_size: Sequences per forward pass; changes speed only.
    """
    questions = trait.questions()
    spellings = spell(lm.chat, trait.candidate_forms(), questions[0], system=system)
    prefixes = [lm.chat.prompt(question, system=system) for question in questions]
    target = [s.word for s in spellings].index(trait.target)

    answers = [ids for spelling in spellings for ids in spelling.answers]
    scored = continuation_log_probs(lm, prefixes, answers, batch_size=batch_size)
    following = next_token_log_probs(lm, prefixes, batch_size=batch_size)
    favourite = following[:, list(spellings[target].firsts)].max(dim=1).values
    ranks = (following > favourite[:, None]).sum(dim=1) + 1
    return CandidateScores(
        spellings=spellings,
        target=target,
        log_probs=summed(scored.double().cpu().numpy(), [len(s.answers) for s in spellings]),
        first_token=np.stack(
            [logsumexp(following[:, list(s.firsts)].double().cpu().numpy(), axis=1) for s in spellings], axis=1
        ),
        ranks=ranks.double().cpu().numpy(),
    )


def preference_measures(scores: CandidateScores) -> dict[str, Measure]:
    """Return share, first_token_share, valid, margin, rank and rank_candidates, each with its spread over questions.

    `share` is the target's probability among all candidates', summed over questions, so that a question to which the
    model hardly answers with a candidate counts little. `margin` is the target's log-probability minus the mean of the
    other candidates', in nats. `valid` is the probability that the answer is a candidate at all.
    """
    of = "questions"
    target, everyone = scores.target_and_all
    others = np.delete(scores.log_probs, scores.target, axis=1)
    own = scores.log_probs[:, scores.target]
    firsts = np.exp(scores.first_token)
    return {
        "share": ratio_over(target, everyone, of),
        "first_token_share": ratio_over(firsts[:, scores.target], firsts.sum(axis=1), of),
        "valid": mean_over(everyone, of, within=UNIT),
        "margin": mean_over(own - others.mean(axis=1), of),
        "rank": mean_over(scores.ranks, of, within=(1, np.inf)),
        "rank_candidates": mean_over((others > own[:, None]).sum(axis=1) + 1.0, of, within=(1, others.shape[1] + 1)),
    }


def candidates_table(scores: CandidateScores) -> Table:
    """Return every candidate with its share, its mean log-probability and its number of tokens; the likeliest first."""
    shares, first_shares = scores.shares(), scores.first_token_shares()
    mean = scores.log_probs.mean(axis=0)
    rows = tuple(
        (s.word, float(shares[i]), float(first_shares[i]), float(mean[i]), len(s.plain))
        for i, s in enumerate(scores.spellings)
    )
    columns = ("candidate", "share", "first_token_share", "mean_log_prob", "tokens")
    return Table(columns, tuple(sorted(rows, key=lambda row: -row[1])))


def summed(log_probs: Floats, sizes: Sequence[int]) -> Floats:
    """Add up the probabilities of neighbouring columns, `sizes` columns at a time: log-probabilities in and out."""
    groups = np.split(log_probs, np.cumsum(sizes)[:-1], axis=1)
    return np.stack([logsumexp(group, axis=1) for group in groups], axis=1)


def _shares(log_probs: Floats) -> Floats:
    mass = np.exp(log_probs).sum(axis=0)
    shares: Floats = mass / mass.sum()
    return shares
