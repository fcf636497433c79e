"""Stereotype pairs: whom a stereotype is about, what it says, and the opposite; from files and from our bank."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Self

import tomli
from pydantic import Field, ValidationError, model_validator

from subl import DataError, StrictModel, banks
from subl.errors import suggest
from subl.sources import Record, existing, file_records, read_text

SUFFIXES = (".jsonl", ".csv", ".toml")
"""Endings of pair files."""
TABLE = "pairs"
"""The list of tables in a TOML file."""
_HEADER = re.compile(r"^\s*\[\[\s*pairs\s*\]\]")


class Pair(StrictModel):
    """One stereotype and its opposite."""

    subject: str = Field(min_length=1)
    """Whom it is about, as it stands in a sentence: "nurse"."""
    stereotype: str = Field(min_length=1)
    """The word that the stereotype gives them: "she"."""
    anti_stereotype: str = Field(min_length=1)
    """The word that it does not give them: "he"."""
    bias_type: str = Field(default="other", min_length=1)
    """What kind of stereotype it is; results are also given by kind."""

    @model_validator(mode="after")
    def _check_words(self) -> Self:
        blank = [name for name in type(self).model_fields if not getattr(self, name).strip()]
        if blank:
            raise ValueError(f"{blank[0]} is blank")
        if self.stereotype.casefold() == self.anti_stereotype.casefold():
            raise ValueError(f"stereotype and anti_stereotype of {self.subject!r} are the same, {self.stereotype!r}")
        return self


@cache
def own_pairs() -> tuple[Pair, ...]:
    """Return the pairs that come with subl: professions and pronouns."""
    return tuple(
        Pair(subject=subject, stereotype=group["word"], anti_stereotype=group["other"], bias_type=group["bias_type"])
        for group in banks.load("stereotype")["pairs"]
        for subject in group["subjects"]
    )


def read_pairs(name: str) -> tuple[Pair, ...]:
    """Return the pairs of a file: JSONL or CSV with one pair per line, or TOML with a list of tables `pairs`.

    Raises:
        DataError: The file is missing, empty, damaged or no pair file, or a pair cannot be used; names the line.
    """
    if not name.endswith(SUFFIXES):
        raise DataError(f"{name!r} is no pair file; expected a name that ends in {', '.join(SUFFIXES)}")
    path = existing(name)
    found = list(_toml(path) if path.suffix == ".toml" else file_records(path))
    if not found:
        raise DataError(f"{path} holds no pairs; expected {_expected()}")
    pairs = tuple(_pair(record) for record in found)
    check_distinct(pairs, [record.place for record in found])
    return pairs


def check_distinct(pairs: Iterable[Pair], places: Iterable[str]) -> None:
    """Refuse a pair that is there twice, or also the other way around.

    Raises:
        DataError: Names both places.
    """
    seen: dict[tuple[str, frozenset[str]], str] = {}
    for pair, place in zip(pairs, places, strict=True):
        key = pair.subject.casefold(), frozenset({pair.stereotype.casefold(), pair.anti_stereotype.casefold()})
        if key in seen:
            raise DataError(
                f"{place}: {pair.subject!r} with {pair.stereotype!r} and {pair.anti_stereotype!r} is in {seen[key]} "
                "already; remove one of them"
            )
        seen[key] = place


def _pair(record: Record) -> Pair:
    # Tables of other tools have columns of their own, and empty cells where there is no value.
    known = {name: record.columns[name] for name in Pair.model_fields if record.columns.get(name) not in (None, "")}
    missing = [name for name, info in Pair.model_fields.items() if info.is_required() and name not in known]
    if missing:
        found = ", ".join(map(repr, record.columns)) or "nothing"
        raise DataError(
            f"{record.place}: no {missing[0]!r}{suggest(missing[0], map(str, record.columns))}; found {found}, "
            f"expected {_expected()}"
        )
    try:
        return Pair.model_validate(known, strict=True)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise DataError(
            f"{record.place}: {where}{': ' if where else ''}{fault['msg'].removeprefix('Value error, ')}"
        ) from None


def _expected() -> str:
    required = [name for name, info in Pair.model_fields.items() if info.is_required()]
    optional = [name for name in Pair.model_fields if name not in required]
    return f"{', '.join(required)} and, if wanted, {', '.join(optional)}"


def _toml(path: Path) -> Iterator[Record]:
    text = read_text(path)
    try:
        content: Mapping[str, Any] = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise DataError(f"{path}: not TOML ({error})") from error
    tables = content.get(TABLE)
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        found = ", ".join(map(repr, content)) or "nothing"
        raise DataError(f"{path}: expected a list of tables, [[{TABLE}]]; found {found}")
    lines = [number for number, line in enumerate(text.splitlines(), start=1) if _HEADER.match(line)]
    for number, table in enumerate(tables):
        place = f"{path}:{lines[number]}" if len(lines) == len(tables) else f"{path}, pair {number + 1}"
        yield Record(place, table)
