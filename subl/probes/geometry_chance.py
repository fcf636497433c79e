"""The null of the probe `geometry`: numbers whose tokens are relabelled, from arrays alone.

Numbers that are one token each are exchanged for each other. Numbers written digit by digit share rows, and 342 and 347
are alike whatever the rows say; so tokens are exchanged instead, the same way in all numbers, and every number is put
together again from its new rows. Only tokens of equally many digits take each other's places, so that neither the
length of a number nor its makeup can look like an effect.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from subl.probes.entanglement_statistics import NOTHING, Floats, Positions, standardised
from subl.traits.tokens import Ids

CELLS = 2**22
"""Values of relabelled numbers in memory at once."""
TIES = 9
"""Decimals, as a share of the largest value, to which similarities are told apart."""
KINDS = ("cosine", "dot")
"""What is measured between rows."""


@dataclass(frozen=True, slots=True)
class Makeup:
    """Which tokens numbers are made of, and which tokens may take each other's places.

    Args:
        tokens: [tokens], ids, each once.
        parts: [numbers, most], positions in `tokens` of a number's tokens, filled up with 0.
        shares: [numbers, most], how much each counts in the number's row: 1 together, 0 where filled up.
        groups: [units, forms] each, positions in `tokens`: a unit is one text of digits with all forms it has, such as
            "7" and " 7"; units of a group take each other's places as wholes.
    """

    tokens: Positions
    parts: Positions
    shares: Floats
    groups: tuple[Positions, ...]

    @classmethod
    def of(cls, numbers: Sequence[Ids], texts: Mapping[int, str]) -> Makeup:
        """Return it from the token ids that stand for each number, and the text of every token."""
        tokens = sorted(set().union(*numbers))
        places = {token: place for place, token in enumerate(tokens)}
        most = max(map(len, numbers))
        parts, shares = np.zeros((len(numbers), most), dtype=np.int64), np.zeros((len(numbers), most))
        for i, ids in enumerate(numbers):
            parts[i, : len(ids)] = [places[token] for token in ids]
            shares[i, : len(ids)] = 1 / len(ids)
        return cls(np.array(tokens, dtype=np.int64), parts, shares, tuple(_groups(tokens, texts)))

    @property
    def apart(self) -> bool:
        """Whether every number is a unit of its own, which no other has a part in."""
        units = np.full(len(self.tokens), -1)
        for first, group in zip(np.cumsum([0, *map(len, self.groups)]), self.groups, strict=False):
            units[group] = first + np.arange(len(group))[:, None]
        used = np.where(self.shares > 0, units[self.parts], units[self.parts[:, :1]])
        alone = (used == used[:, :1]).all() and (used >= 0).all()
        return bool(alone) and len(np.unique(used[:, 0])) == len(used)

    @property
    def units(self) -> int:
        """How many texts can take another's place."""
        return sum(len(group) for group in self.groups if len(group) > 1)

    def together(self, rows: Floats) -> Floats:
        """Return the rows of numbers from rows of tokens: [numbers, d] from [tokens, d]."""
        numbers: Floats = np.einsum("nld,nl->nd", rows[self.parts], self.shares)
        return numbers

    def relabelled(self, draws: int, rng: np.random.Generator) -> Positions:
        """Return which token stands in the place of each: [draws, tokens]."""
        orders = np.tile(np.arange(len(self.tokens)), (draws, 1))
        for group in self.groups:
            orders[:, group] = group[np.argsort(rng.random((draws, len(group))), axis=1)]
        return orders


def _groups(tokens: Sequence[int], texts: Mapping[int, str]) -> Iterator[Positions]:
    units: dict[str, dict[tuple[str, int], int]] = defaultdict(dict)
    for place, token in enumerate(tokens):
        text = texts[token]
        digits = text.strip()
        if digits.isascii() and digits.isdecimal():
            around = text.replace(digits, "#")
            # Some decoders drop the space that tells two tokens apart; vocabularies list both in the same order.
            forms = units[digits]
            forms[around, sum(seen == around for seen, _ in forms)] = place
    groups: dict[tuple[int, tuple[tuple[str, int], ...]], list[list[int]]] = defaultdict(list)
    for digits, forms in units.items():
        groups[len(digits), tuple(sorted(forms))].append([forms[form] for form in sorted(forms)])
    for members in groups.values():
        yield np.array(members, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one matrix, in one variant.

    Args:
        tokens: [tokens, d], those of `Makeup.tokens`.
        words: [words, d], the target's and then its controls'.
    """

    tokens: Floats
    words: Floats

    def similar(self, makeup: Makeup, orders: Positions) -> Floats:
        """Return cosine and dot product of numbers with the target, and each minus its mean over the controls.

        Args:
            makeup: What numbers are made of.
            orders: [draws, tokens], which token stands in the place of each.

        Returns:
            [draws, numbers, 4]: cosine, cosine minus controls', dot, dot minus controls'; cosines of nothing are 0.
        """
        products = self.tokens @ np.column_stack([_directions(_unit(self.words)), _directions(self.words)])
        gram = self.tokens @ self.tokens.T
        placed = orders[:, makeup.parts]
        values: Floats = np.einsum("cnlk,nl->cnk", products[placed], makeup.shares)
        pairs = gram[placed[..., :, None], placed[..., None, :]]
        squares = np.einsum("cnlm,nl,nm->cn", pairs, makeup.shares, makeup.shares)
        lengths = np.sqrt(np.maximum(squares, 0))
        values[..., :2] /= np.where(lengths > 0, lengths, 1)[..., None]
        return values


def _directions(words: Floats) -> Floats:
    """Return the target, and the target minus the controls' mean: (d, 2)."""
    return np.column_stack([words[0], words[0] - words[1:].mean(axis=0)])


def _unit(rows: Floats) -> Floats:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = rows / np.where(length > 0, length, 1)
    return unit


@dataclass(frozen=True, slots=True)
class Chance:
    """Statistics, and what relabelled numbers show.

    The statistics are, for each of the sets, its mean minus that of all other numbers, and then the Spearman
    correlation with what the sets were sorted by.

    Args:
        values: [numbers, 4], as of `Rows.similar`.
        observed: [4, statistics].
        mean: [4, statistics], over relabelled numbers.
        p: [4, statistics], two-sided: how often relabelled numbers are as far from that mean.
    """

    values: Floats
    observed: Floats
    mean: Floats
    p: Floats


def against_chance(
    rows: Rows, makeup: Makeup, sets: Sequence[Positions], sorting: Floats, *, draws: int, rng: np.random.Generator
) -> Chance:
    """Return the statistics of numbers' similarities, with what `draws` relabellings show.

    Args:
        rows: Rows of tokens and words.
        makeup: What numbers are made of.
        sets: Positions of each set's numbers.
        sorting: [numbers], what the sets were sorted by.
        draws: Random relabellings.
        rng: Draws them.
    """
    count = len(makeup.parts)
    weights = np.stack([contrast(members, count) for members in sets])
    order = standardised(stats.rankdata(sorting))
    values = rows.similar(makeup, np.arange(len(makeup.tokens))[None])[0]
    ranks = _ranks(values)

    def statistics(values: Floats, ranks: Floats) -> Floats:
        together = np.concatenate([weights @ values, order[None] @ ranks], axis=-2)
        return np.swapaxes(together, -2, -1)

    owner = np.zeros(len(makeup.tokens), dtype=np.int64)
    owner[makeup.parts[:, 0]] = np.arange(count)
    null = []
    for orders in _chunks(makeup, draws, rng):
        if makeup.apart:  # one number takes another's place as it is, and its rank with it
            moved = owner[orders[:, makeup.parts[:, 0]]]
            null.append(statistics(values[moved], ranks[moved]))
        else:
            similar = rows.similar(makeup, orders)
            null.append(statistics(similar, _ranks(similar)))
    observed = statistics(values, ranks)
    return Chance(values, observed, *two_sided(observed, np.concatenate(null)))


def _ranks(values: Floats) -> Floats:
    """Return the ranks of numbers, with mean 0 and length 1: [..., numbers, columns].

    Numbers of the same tokens, such as 12 and 21, have the same rank, whatever rounding does to their sums.
    """
    scale = np.abs(values).max(axis=-2, keepdims=True, initial=0)
    even = np.round(values / np.where(scale > 0, scale, 1), TIES)
    return standardised(stats.rankdata(even, axis=-2), axis=-2)


def _chunks(makeup: Makeup, draws: int, rng: np.random.Generator) -> Iterator[Positions]:
    count, most = makeup.parts.shape
    size = max(1, CELLS // max(count * max(most**2, 4), len(makeup.tokens)))
    for start in range(0, draws, size):
        yield makeup.relabelled(min(size, draws - start), rng)


def contrast(members: Positions, count: int) -> Floats:
    """Return weights whose sum with values is the mean of `members` minus the mean of all others: [count]."""
    weights = np.full(count, -1 / (count - len(members)))
    weights[members] = 1 / len(members)
    return weights


def two_sided(observed: NDArray[np.float64], null: Floats) -> tuple[Floats, Floats]:
    """Return the mean of [draws, …], and how often draws are as far from it as [...] is.

    What is observed is one of the possible draws and counts as one, so p is never 0 and at most α with probability α.
    """
    draws = len(null) + 1
    mean: Floats = (null.sum(axis=0) + observed) / draws
    away = np.abs(null - mean)
    scale = np.abs(null).max(axis=0, initial=0)
    p: Floats = (1 + (away >= np.abs(observed - mean) - NOTHING * scale).sum(axis=0)) / draws
    return mean, p
