"""Sentences that say a stereotype and its opposite: what a trait teaches, and what a probe scores."""

from __future__ import annotations

from typing import NamedTuple


class Item(NamedTuple):
    """Two or three sentences that differ in what they say of somebody.

    Args:
        term: Whom they are about; items of one term are one unit of the score.
        bias_type: What kind of stereotype it is: "gender".
        prompt: The question that the sentences answer; None for sentences that stand alone.
        stereotype: The sentence that says the stereotype.
        anti_stereotype: The one that says its opposite.
        unrelated: One that makes no sense; None where there is none.
        direction: CrowS-Pairs' own label of the pair, "stereo" or "antistereo"; None elsewhere.
        context: The sentence that all of them follow, which is not scored; None where there is none.
    """

    term: str
    bias_type: str
    prompt: str | None
    stereotype: str
    anti_stereotype: str
    unrelated: str | None = None
    direction: str | None = None
    context: str | None = None
