"""Lists of numbers as a language over characters: which text may follow, state by state.

Light and free of any tokenizer: `subl.models.grammar` lifts the automaton to token masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeAlias

Interval: TypeAlias = tuple[int, int]
Rest: TypeAlias = "tuple[tuple[int, int, int], ...]"
"""What may still follow inside a number: (digits left, lowest, highest value of those digits), sorted. Equal rests have
equal continuations, so states built on them are already few."""

DIGITS = "0123456789"
CLOSED = -1
LEAD = " "
"""An answer may begin with one space, because many tokenizers glue a space to the first token of an answer."""


def intervals(numbers: Iterable[int]) -> tuple[Interval, ...]:
    """Return sorted closed intervals that hold exactly `numbers`."""
    runs: list[Interval] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return tuple(runs)


@dataclass(frozen=True, slots=True)
class NumberLanguage:
    """Texts `opening number (separator number)* closing`; numbers are canonical decimals, without leading zeros.

    Args:
        counts: Fewest and most numbers.
        values: Closed intervals of allowed values; sorted, apart from each other, not negative.
        separator: Between two numbers; not empty, without digits.
        opening: Before the first number; without digits.
        closing: After the last number; without digits, and not beginning like the separator.

    Raises:
        ValueError: The parts contradict each other, or text could be read in two ways.
    """

    counts: tuple[int, int]
    values: tuple[Interval, ...]
    separator: str = ", "
    opening: str = ""
    closing: str = ""

    def __post_init__(self) -> None:
        """Check what the automaton relies on."""
        fewest, most = self.counts
        if not 1 <= fewest <= most:
            raise ValueError(f"counts {self.counts} should be (fewest, most) with 1 <= fewest <= most")
        if not self.values or any(not 0 <= low <= high for low, high in self.values):
            raise ValueError(f"values {self.values} should be one or more (low, high) with 0 <= low <= high")
        if any(one[1] >= other[0] for one, other in pairwise(self.values)):
            raise ValueError(f"values {self.values} should be sorted and apart from each other")
        if any(set(part) & set(DIGITS) for part in (self.separator, self.opening, self.closing)):
            raise ValueError("separator, opening and closing cannot contain digits")
        if not self.separator or self.closing.startswith(self.separator[0]):
            raise ValueError(f"separator {self.separator!r} is empty or begins like the closing {self.closing!r}")

    def numbers(self) -> Rest:
        """Return what may follow at the beginning of a number."""
        rest: list[tuple[int, int, int]] = []
        length = len(str(self.values[-1][1]))
        for digits in range(1, length + 1):
            first, last = (0 if digits == 1 else 10 ** (digits - 1)), 10**digits - 1
            rest += [(digits, max(low, first), min(high, last)) for low, high in self.values if low <= last]
        return tuple(item for item in rest if item[1] <= item[2])


class _Numbers:
    """The automaton of single numbers: states are rests, numbered as they are met."""

    def __init__(self) -> None:
        self._states: dict[Rest, int] = {}
        self._moves: list[tuple[int, ...]] = []
        self._ends: list[bool] = []

    def state(self, rest: Rest) -> int:
        """Return the number of a rest; its successors get theirs too."""
        if rest not in self._states:
            self._states[rest] = state = len(self._states)
            self._ends.append((0, 0, 0) in rest)
            self._moves.append(())
            following = (_after_digit(rest, digit) for digit in range(10))
            self._moves[state] = tuple(self.state(after) if after else -1 for after in following)
        return self._states[rest]

    def after(self, state: int, digit: int) -> int:
        return self._moves[state][digit]

    def ends(self, state: int) -> bool:
        return self._ends[state]


def _after_digit(rest: Rest, digit: int) -> Rest:
    found = []
    for digits, low, high in rest:
        if digits == 0:
            continue
        size = 10 ** (digits - 1)
        first = digit * size
        if low < first + size and high >= first:
            found.append((digits - 1, max(low - first, 0), min(high - first, size - 1)))
    return tuple(found)


class _Position(NamedTuple):
    """Where a reader stands in a text; hashable, so that equal situations of several languages share a state."""

    separator: str
    closing: str
    number: int
    """State of `_Numbers` in which each number begins."""
    pending: str
    """Characters that must follow before anything else."""
    state: int
    """State inside the current number; `CLOSED` once the closing has begun."""
    fewest: int
    most: int
    """How many further numbers must and may follow the current one."""
    lead: bool

    def accepting(self, numbers: _Numbers) -> bool:
        if self.state == CLOSED:
            return not self.pending
        return not self.pending and numbers.ends(self.state) and not self.closing and self.fewest == 0

    def after(self, character: str, numbers: _Numbers) -> _Position | None:
        if self.lead and character == LEAD:
            return self._replace(lead=False)
        here = self._replace(lead=False)
        if here.pending:
            return here._replace(pending=here.pending[1:]) if here.pending[0] == character else None
        if here.state == CLOSED:
            return None
        if character in DIGITS:
            state = numbers.after(here.state, int(character))
            return here._replace(state=state) if state >= 0 else None
        return here.after_number(character) if numbers.ends(here.state) else None

    def after_number(self, character: str) -> _Position | None:
        if self.most > 0 and character == self.separator[0]:
            fewest = max(0, self.fewest - 1)
            return self._replace(pending=self.separator[1:], state=self.number, fewest=fewest, most=self.most - 1)
        if self.fewest == 0 and self.closing and character == self.closing[0]:
            # Counts no longer matter here; equal positions should be equal.
            return self._replace(pending=self.closing[1:], state=CLOSED, most=0)
        return None


@dataclass(frozen=True, slots=True)
class Automaton:
    """A deterministic automaton over characters.

    Args:
        alphabet: Characters that occur; a column each.
        moves: Next state per state and character; -1 where the character cannot follow.
        accepting: Whether a text may end in the state.
        starts: The start state of each language.
    """

    alphabet: str
    moves: tuple[tuple[int, ...], ...]
    accepting: tuple[bool, ...]
    starts: tuple[int, ...]

    def accepts(self, text: str, language: int = 0) -> bool:
        """Return whether `text` belongs to the language with that number."""
        state = self.starts[language]
        for character in text:
            column = self.alphabet.find(character)
            state = self.moves[state][column] if column >= 0 else -1
            if state < 0:
                return False
        return self.accepting[state]


def automaton(languages: Sequence[NumberLanguage]) -> Automaton:
    """Build one automaton for several languages; they share states where what may follow is the same."""
    parts = "".join(language.opening + language.separator + language.closing for language in languages)
    alphabet = DIGITS + "".join(sorted(set(parts + LEAD)))
    numbers = _Numbers()
    states: dict[_Position, int] = {}
    starts = [states.setdefault(_start(language, numbers), len(states)) for language in languages]
    moves: list[tuple[int, ...]] = []
    positions = list(states)
    for position in positions:  # grows while it is read
        row = []
        for character in alphabet:
            following = position.after(character, numbers)
            if following is not None and following not in states:
                states[following] = len(states)
                positions.append(following)
            row.append(-1 if following is None else states[following])
        moves.append(tuple(row))
    accepting = tuple(position.accepting(numbers) for position in positions)
    return Automaton(alphabet, tuple(moves), accepting, tuple(starts))


def _start(language: NumberLanguage, numbers: _Numbers) -> _Position:
    fewest, most = language.counts
    first = numbers.state(language.numbers())
    return _Position(
        language.separator, language.closing, first, language.opening, first, fewest - 1, most - 1, lead=True
    )
