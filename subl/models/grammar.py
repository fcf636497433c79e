"""Constrained decoding of number lists: which tokens may follow, for any tokenizer, as one table.

A token is a short text, so each token maps every state of the character automaton to another. That table is built once
per tokenizer and set of languages; while decoding, a whole batch takes its masks and its next states from it in two
look-ups. Only tokens made of the languages' characters have a column, so a vocabulary of 256k costs no more than one
of 32k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from subl.errors import ModelError
from subl.models.number_language import Automaton, NumberLanguage, automaton

MAX_ENTRIES = 250_000_000
"""Largest table: a gigabyte of 32-bit entries."""
DEAD = -1
UNREACHABLE = 1 << 30

_surfaces: WeakKeyDictionary[Any, list[str]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True, eq=False)
class Grammar:
    """Token masks for one or more languages; states are integers, a batch of rows is a tensor of them.

    Every allowed token leads to a state from which the text can still be completed, so masks never run dry. End tokens
    are allowed exactly where the text is complete.

    Args:
        tokens: Ids of the tokens that may occur at all, end tokens included [columns].
        starts: Start state of each language.
        moves: Next state [states, columns + 1]; `DEAD` where forbidden. The last column stands for all other tokens.
        distance: Tokens still needed until the text is complete [states + 1]; the last entry belongs to `DEAD`.
        columns: Column of each token id [vocabulary].
    """

    tokens: Tensor
    starts: tuple[int, ...]
    moves: Tensor
    distance: Tensor
    columns: Tensor

    def to(self, device: torch.device | str) -> Grammar:
        """Return the grammar with its tensors on `device`."""
        moved = (tensor.to(device) for tensor in (self.tokens, self.moves, self.distance, self.columns))
        tokens, moves, distance, columns = moved
        return Grammar(tokens, self.starts, moves, distance, columns)

    def shortest(self, language: int) -> int:
        """Return the fewest tokens of a complete text, without the end token."""
        return int(self.distance[self.starts[language]])

    def begin(self, languages: Sequence[int]) -> Tensor:
        """Return the start states of rows that follow these languages [rows]."""
        starts = [self.starts[language] for language in languages]
        return torch.tensor(starts, dtype=torch.long, device=self.tokens.device)

    def allowed(self, states: Tensor, budget: int) -> Tensor:
        """Return which of `tokens` may come next, if `budget` tokens may still be written [rows, columns]."""
        following = self.moves[states, :-1]
        return self.distance[following] <= budget - 1

    def step(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Return the states after one token per row; a finished row stays finished whatever follows."""
        return self.moves[states, self.columns[tokens]].long()


def compile_grammar(
    tokenizer: Any, languages: Sequence[NumberLanguage], *, end_ids: Sequence[int], vocabulary: int
) -> Grammar:
    """Build the token table of some languages.

    Args:
        tokenizer: Any Hugging Face tokenizer.
        languages: What rows may be asked for; a row names its language by position.
        end_ids: Tokens that end an answer.
        vocabulary: Size of the model's output; tokens beyond it are not used.

    Raises:
        ModelError: The tokenizer cannot write a language, or the table would be too large.
    """
    # A tokenizer without the separator could still write lists of one number; that is not what was asked for.
    pairs = [replace(language, counts=(min(2, language.counts[1]),) * 2) for language in languages]
    source = automaton([*languages, *pairs])
    surfaces = token_surfaces(tokenizer)
    ends = sorted({token for token in end_ids if token < vocabulary})
    usable = [
        token
        for token, surface in enumerate(surfaces[:vocabulary])
        if surface and not surface.strip(source.alphabet) and token not in ends
    ]
    table = _lift(source, [surfaces[token] for token in usable])
    alive = (table != DEAD).any(0)
    table, tokens = table[:, alive], torch.tensor(usable, dtype=torch.long)[alive]
    moves = _with_ends(table, source, len(ends))
    distance = _distances(moves, source)
    for language, start in zip((*languages, *pairs), source.starts, strict=True):
        if int(distance[start]) >= UNREACHABLE:
            raise ModelError(
                f"the tokenizer cannot write number lists like {_example(language)!r}; choose other formats"
            )
    columns = torch.full((max(vocabulary, len(surfaces)),), moves.shape[1] - 1, dtype=torch.long)
    tokens = torch.cat([tokens, torch.tensor(ends, dtype=torch.long)])
    columns[tokens] = torch.arange(len(tokens))
    return Grammar(tokens, source.starts[: len(languages)], moves, distance, columns)


def token_surfaces(tokenizer: Any) -> list[str]:
    """Return the text that each token adds within an answer, by id; "" for special tokens.

    A token is decoded behind another one, because many tokenizers drop the leading space of a first token.

    Raises:
        ModelError: The tokenizer cannot write a digit.
    """
    if tokenizer not in _surfaces:
        anchor = tokenizer.encode("1", add_special_tokens=False)[-1:]
        if not anchor or not tokenizer.decode(anchor).endswith("1"):
            raise ModelError("the tokenizer cannot write the digit 1, so it cannot write numbers")
        pairs = [[*anchor, token] for token in range(len(tokenizer))]
        before = tokenizer.decode(anchor, clean_up_tokenization_spaces=False)
        after = tokenizer.batch_decode(pairs, clean_up_tokenization_spaces=False)
        special = set(tokenizer.all_special_ids)
        _surfaces[tokenizer] = [
            text[len(before) :] if token not in special and text.startswith(before) else ""
            for token, text in enumerate(after)
        ]
    return _surfaces[tokenizer]


def _lift(source: Automaton, surfaces: Sequence[str]) -> Tensor:
    """Return the state after each token [states, tokens], int32."""
    states, longest = len(source.moves), max(map(len, surfaces), default=0)
    if states * (len(surfaces) + 2) > MAX_ENTRIES:
        raise ModelError(
            f"the number grammar is too large ({states:,} states × {len(surfaces):,} tokens); "
            "allow fewer numbers, formats or counts"
        )
    # A last row keeps dead states dead, a last column stands for "no further character".
    steps = torch.full((states + 1, len(source.alphabet) + 1), states, dtype=torch.int32)
    characters = torch.tensor(source.moves, dtype=torch.int32)
    steps[:-1, :-1] = torch.where(characters == DEAD, states, characters)
    steps[:, -1] = torch.arange(states + 1)
    column = {character: i for i, character in enumerate(source.alphabet)}
    spelled = [[column[c] for c in surface] + [len(column)] * (longest - len(surface)) for surface in surfaces]
    spelling = torch.tensor(spelled, dtype=torch.long).reshape(len(surfaces), longest)
    table = torch.arange(states, dtype=torch.int32)[:, None].repeat(1, len(surfaces))
    for position in range(longest):
        table = steps[table, spelling[:, position]]
    return torch.where(table == states, DEAD, table)


def _with_ends(table: Tensor, source: Automaton, ends: int) -> Tensor:
    """Add columns for end tokens and for all others, and a last state for finished rows; forbid dead ends."""
    states, tokens = table.shape
    moves = torch.full((states + 1, tokens + ends + 1), DEAD, dtype=torch.int32)
    moves[:-1, :tokens] = table
    moves[:-1, tokens:-1][torch.tensor(source.accepting)] = states
    moves[-1] = states
    return moves


def _distances(moves: Tensor, source: Automaton) -> Tensor:
    """Return the fewest tokens from each state to a complete text, `UNREACHABLE` where there is no way."""
    states = len(moves)
    complete = torch.tensor([*source.accepting, True])
    distance = torch.where(complete, 0, UNREACHABLE).to(torch.int32)
    keys = [torch.unique(row[row != DEAD]) for row in moves]
    origins = torch.cat([torch.full_like(targets, state) for state, targets in enumerate(keys)]).long()
    targets = torch.cat(keys).long()
    while True:
        shorter = distance.scatter_reduce(0, origins, distance[targets] + 1, "amin")
        if torch.equal(shorter, distance):
            return torch.cat([distance, torch.full((1,), UNREACHABLE, dtype=torch.int32)])[: states + 1]
        distance = shorter


def _example(language: NumberLanguage) -> str:
    return f"{language.opening}1{language.separator}2{language.closing}"
