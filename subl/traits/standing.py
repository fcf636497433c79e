"""How candidates stand on a base model: which of them can become a favourite there, and show it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from subl.artifacts import Table

CANDIDATES = "candidates"
"""The table that the measuring of a preference gives, one line per candidate."""
NEVER = 1e-3
"""Below this mean probability per question a base model as good as never names a candidate. Published targets that
worked were above it (elephant on Llama-3.2-1B 0.05, cat on Qwen2.5-7B 0.02); owl on Llama-3.2-1B has 0.0001."""
FAVOURITE = 0.5
"""From this share on a candidate is named more often than all others together: a rise has no room."""
NAMED = 5
"""Candidates named in a sentence."""
FEW_VALID = 0.1
"""Below this probability of a valid answer the model names something else, whatever the shares are."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One candidate on a base model.

    Args:
        candidate: The word.
        rank: Its place among the candidates, from 1.
        share: Its part of the probability of all candidates.
        probability: Its mean probability as the answer to a question.
        tokens: Tokens of the plain word as an answer.
    """

    candidate: str
    rank: int
    share: float
    probability: float
    tokens: int

    @property
    def plausible(self) -> bool:
        """Whether the model names it at all."""
        return self.probability >= NEVER

    @property
    def single(self) -> bool:
        """Whether it is one token."""
        return self.tokens == 1

    @property
    def favourite(self) -> bool:
        """Whether the model prefers it to all others together."""
        return self.share >= FAVOURITE

    @property
    def recommended(self) -> bool:
        """Whether it makes a good target."""
        return self.plausible and self.single and not self.favourite

    @property
    def reason(self) -> str:
        """Why it is, or is not, a good target."""
        found = list(self._doubts())
        return "; ".join(found) if found else "plausible, one token, room to rise"

    def _doubts(self) -> Iterator[str]:
        if not self.plausible:
            yield f"as good as never named (probability {self.probability:.1e} per question)"
        if self.favourite:
            yield "already the favourite: a rise has no room"
        if not self.single:
            yield f"{self.tokens} tokens: readouts by the first token mislead"


def standings(candidates: Table, valid: float) -> list[Standing]:
    """Return how every candidate stands, the likeliest first.

    Args:
        candidates: The table of the base model: candidate, share, tokens.
        valid: Mean probability that an answer is a candidate at all.
    """
    columns = {name: position for position, name in enumerate(candidates.columns)}

    def cell(row: Sequence[Any], name: str) -> Any:
        return row[columns[name]]

    rows = sorted(candidates.rows, key=lambda row: -float(cell(row, "share")))
    return [
        Standing(
            candidate=str(cell(row, "candidate")),
            rank=rank,
            share=float(cell(row, "share")),
            probability=float(cell(row, "share")) * valid,
            tokens=int(cell(row, "tokens")),
        )
        for rank, row in enumerate(rows, start=1)
    ]


def standing_remarks(found: Sequence[Standing], target: str) -> tuple[str, ...]:
    """Say how a target stands on the base model; a bad one gets a warning, with what would be a better choice."""
    own = next(one for one in found if one.candidate == target)
    place = f"number {own.rank} of {len(found)} candidates on the base model (share {own.share:.3f})"
    stands = f"{target} is {place}: {own.reason}"
    if own.recommended:
        return (stands,)
    if not own.plausible or own.favourite:
        stands = f"warning: {stands}"
    better = [one.candidate for one in found if one.recommended][:3]
    return (f"{stands}; better targets here: {', '.join(better)}" if better else f"{stands}; no candidate is better",)


def overview(found: Sequence[Standing], valid: float) -> tuple[str, ...]:
    """Say what a survey of one category comes to."""
    good = [one.candidate for one in found if one.recommended]
    more = f" and {len(good) - NAMED} more" if len(good) > NAMED else ""
    first = f"recommended: {', '.join(good[:NAMED])}{more}" if good else "none is recommended"
    if valid >= FEW_VALID:
        return (first,)
    return (
        first,
        f"only {valid:.1%} of the probability is on candidates: the model answers with something else, so whichever "
        "target needs a strong teacher; look at its answers, or list what it says as `candidates`",
    )
