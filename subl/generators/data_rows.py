"""From records to rows: which columns hold what, which prompts two data sets share, and which rows are drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, TypeAlias

from subl.artifacts import Row
from subl.errors import DataError
from subl.generators.dataset import DatasetRows, DataSource
from subl.sources import Record, identify, records

PROMPTS = ("prompt", "question", "instruction", "input", "query")
COMPLETIONS = ("completion", "response", "answer", "output")
MESSAGES = ("messages",)
"""Names that columns are known by, in any case."""

_Read: TypeAlias = Callable[[Record], tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt with its completion.

    Args:
        prompt: The user's text.
        completion: The answer.
        number: Which record of the source it is, from 1.
        occurrence: How often the prompt came before in the source.
    """

    prompt: str
    completion: str
    number: int
    occurrence: int

    @property
    def key(self) -> tuple[str, int]:
        """What makes it equal to a pair of another data set."""
        return self.prompt, self.occurrence


def rows(config: DatasetRows.Config, seed: int) -> list[Row]:
    """Return the rows of `DatasetRows.generate`, all of them.

    Raises:
        DataError: As there.
    """
    found = list(pairs(config))
    if config.pair_with is not None:
        found = _shared(found, list(pairs(config.pair_with)), config.source, config.pair_with.source)
    if config.samples is not None and config.samples > len(found):
        shared = "" if config.pair_with is None else f" whose prompts are in {config.pair_with.source}, too"
        raise DataError(
            f"{config.source} has {len(found)} rows{shared}, and generator.samples asks for {config.samples}; "
            "lower it, or remove it to take all"
        )
    if config.samples is not None or config.pair_with is not None:
        found = sorted(found, key=lambda pair: _rank(pair, seed))[: config.samples]
    return [Row(index, pair.prompt, pair.completion, {"source_row": pair.number}) for index, pair in enumerate(found)]


def pairs(source: DataSource) -> Iterator[Pair]:
    """Yield the prompts and completions of a source in its order, read once as long as its content is the same.

    Raises:
        DataError: It is empty or damaged, lacks columns, or holds something else than text in them.
    """
    yield from _read(source, identify(source))


@lru_cache(maxsize=4)
def _read(source: DataSource, identity: str) -> tuple[Pair, ...]:  # noqa: ARG001 (tells changed files apart)
    """Read once per content: every arm and sweep point of a recipe asks."""
    return tuple(_pairs(source))


def _pairs(source: DataSource) -> Iterator[Pair]:
    seen: Counter[str] = Counter()
    read: _Read | None = None
    for number, record in enumerate(records(source), start=1):
        read = read or _reader(source, record)
        prompt, completion = read(record)
        yield Pair(prompt, completion, number, seen[prompt])
        seen[prompt] += 1
    if read is None:
        raise DataError(f"{source.source} is empty: expected at least one row with a prompt and a completion")


def _shared(own: list[Pair], other: list[Pair], name: str, other_name: str) -> list[Pair]:
    known = {pair.key for pair in other}
    found = [pair for pair in own if pair.key in known]
    if not found:
        raise DataError(
            f"{name} and {other_name} have no prompt in common, so arms cannot be paired; the first prompts are "
            f"{own[0].prompt[:80]!r} and {other[0].prompt[:80]!r}"
        )
    return found


def _rank(pair: Pair, seed: int) -> bytes:
    """Return a rank that depends on seed and prompt alone, so that it is the same in every data set."""
    return blake2b(f"{seed} {pair.occurrence} {pair.prompt}".encode(), digest_size=16).digest()


def _reader(source: DataSource, first: Record) -> _Read:
    """Return what reads a record, by the columns that are named or found in the first one."""
    names, columns = list(first.columns), source.columns
    if columns.messages is not None:
        return _conversation(columns.messages)
    if columns.prompt is not None and columns.completion is not None:
        return _two_columns(columns.prompt, columns.completion)
    prompts, completions, messages = (_known(names, known) for known in (PROMPTS, COMPLETIONS, MESSAGES))
    if len(prompts) == 1 and len(completions) == 1:
        return _two_columns(prompts[0], completions[0])
    if len(messages) == 1 and not (prompts and completions):
        return _conversation(messages[0])
    expected = f"one of {', '.join(PROMPTS)} with one of {', '.join(COMPLETIONS)}, or messages"
    many = [group for group in (prompts, completions) if len(group) > 1] if prompts and completions else []
    problem = f"more than one column may be meant ({', '.join(many[0])})" if many else "no columns for rows"
    raise DataError(
        f"{first.place}: {problem}; found {_listed(names)}, expected {expected}; name them, e.g. "
        'generator.columns = { prompt = "…", completion = "…" }'
    )


def _known(names: Collection[str], known: Collection[str]) -> list[str]:
    return [name for name in names if name.casefold() in known]


def _two_columns(prompt: str, completion: str) -> _Read:
    def read(record: Record) -> tuple[str, str]:
        return _text(record, prompt), _text(record, completion)

    return read


def _text(record: Record, column: str) -> str:
    value = _value(record, column)
    if not isinstance(value, str):
        raise DataError(f"{record.place}: column {column!r} holds {_shown(value)} where text is due")
    return value


def _value(record: Record, column: str) -> Any:
    if column not in record.columns:
        raise DataError(f"{record.place}: no column {column!r}; found {_listed(record.columns)}")
    return record.columns[column]


def _conversation(column: str) -> _Read:
    def read(record: Record) -> tuple[str, str]:
        turns = _value(record, column)
        if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
            raise DataError(
                f"{record.place}: column {column!r} holds {_shown(turns)} where a list of messages with `role` and "
                "`content` is due"
            )
        spoken = [turn for turn in turns if turn.get("role") != "system"]
        roles = [str(turn.get("role")) for turn in spoken]
        if roles != ["user", "assistant"]:
            raise DataError(
                f"{record.place}: a row is one user turn and one answer (user, assistant); "
                f"this conversation has {', '.join(roles) or 'neither'}"
            )
        texts = [turn.get("content") for turn in spoken]
        if not (isinstance(texts[0], str) and isinstance(texts[1], str)):
            raise DataError(f"{record.place}: a message of column {column!r} has no text as its `content`")
        return texts[0], texts[1]

    return read


def _listed(names: Collection[str]) -> str:
    return ", ".join(map(repr, names)) if names else "no columns"


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
