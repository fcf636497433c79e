"""TOML files with the place of every key, and TOML written back."""

from __future__ import annotations

import errno
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import tomli

from subl.artifacts import Json
from subl.errors import RecipeError

KeyPath: TypeAlias = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: the line of its key (of the item itself in a list), and the span of its text."""

    line: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed TOML file."""

    path: Path
    text: str
    data: dict[str, Json]
    places: Mapping[KeyPath, Place]
    """Path → place, for every table, list, list item and value."""


class TomlError(RecipeError):
    """A file that cannot be read as a recipe's TOML.

    Args:
        shown: The file's name in messages.
        reason: What is wrong.
        line: Where, as far as it is known.
        column: Where in the line.
    """

    def __init__(self, shown: str, reason: str, line: int | None = None, column: int | None = None) -> None:
        place = ":".join(str(part) for part in (shown, line, column) if part is not None)
        super().__init__(f"{place}: {reason}")
        self.reason = reason
        self.line = line
        self.column = column


def read_toml(path: Path, shown: str | None = None) -> Document:
    """Read a TOML file.

    Args:
        path: The file.
        shown: The file's name in messages.

    Raises:
        TomlError: Missing, unreadable, not UTF-8, malformed (with line and column), or holding dates.
    """
    shown = shown or str(path)
    try:
        # Bytes, because reading as text would turn \r\n into \n and move every span. The signature is Notepad's.
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TomlError(shown, f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        remedy = {errno.EACCES: f"; let yourself read it: chmod u+r {path}", errno.EISDIR: "; name a file in it"}
        reason = f"cannot be read: {error.strerror or error}{remedy.get(error.errno or 0, '')}"
        raise TomlError(shown, reason) from error
    try:
        data = tomli.loads(text)
        places = Scanner(text).document()
    except tomli.TOMLDecodeError as error:
        raise TomlError(shown, error.msg[:1].lower() + error.msg[1:], error.lineno, error.colno) from error
    except RecursionError as error:
        raise TomlError(shown, "values are nested too deeply") from error
    for key, value in leaves(data):
        if not isinstance(value, bool | int | float | str):
            reason = f'{dotted(key)}: dates are not used in recipes; write it as text: "{value}"'
            raise TomlError(shown, reason, places[key].line)
    return Document(path, text, data, places)


def leaves(data: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield the path and value of everything that is neither a table nor a list."""
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from leaves(value, (*path, key))
    else:
        yield path, data


def dotted(path: KeyPath) -> str:
    """Return a path as TOML and `--set` write it."""
    return ".".join(part if _BARE.fullmatch(part) else json.dumps(part, ensure_ascii=False) for part in map(str, path))


def parse_key(text: str) -> KeyPath:
    """Read a dotted key, with quoted parts, as TOML would.

    Raises:
        ValueError: It is not a key.
    """
    scanner = Scanner(text.strip())
    parts = scanner.key()
    if not parts or not scanner.done():
        raise ValueError(f"{text!r} is not a dotted key")
    return parts


class Scanner:
    """Finds where keys and values stand in a document that tomli accepts.

    It reads structure only: what a value is, tomli has said already.
    """

    _blank = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
    _space = re.compile(r"[ \t]*")
    _key = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'|[A-Za-z0-9_-]+")
    _string = re.compile(
        r'"""(?:[^"\\]|\\[\s\S]|"{1,2}(?!"))*"{3,5}'
        r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
        r'|"(?:[^"\\]|\\.)*"'
        r"|'[^']*'"
    )
    _scalar = re.compile(r"\d{4}-\d\d-\d\d \d\d[^\s,\]}#]*|[^\s,\]}#]+")  # a date may hold one space

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self.places: dict[KeyPath, Place] = {}
        self._items: dict[KeyPath, int] = {}

    def document(self) -> dict[KeyPath, Place]:
        """Return the places of a whole document."""
        table: KeyPath = ()
        while not self.done():
            if self._eat("[["):
                table = self._header(self.key(), item=True)
                self._eat("]]")
            elif self._eat("["):
                table = self._header(self.key(), item=False)
                self._eat("]")
            else:
                self._pair(table)
        return self.places

    def done(self) -> bool:
        """Skip blanks and comments; return whether nothing is left."""
        self._skip(self._blank)
        return self.at >= len(self.text)

    def key(self) -> KeyPath:
        """Read a dotted key; () where there is none."""
        parts: list[str] = []
        while True:
            self._skip(self._space)
            part = self._key.match(self.text, self.at)
            if part is None:
                return ()
            parts.append(_unquoted(part.group()))
            self.at = part.end()
            self._skip(self._space)
            if not self._eat("."):
                return tuple(parts)

    def _header(self, parts: KeyPath, *, item: bool) -> KeyPath:
        path: KeyPath = ()
        for part in parts[:-1]:
            path = (*path, part)
            self._note(path)
            path = (*path, self._items[path]) if path in self._items else path
        path = (*path, parts[-1])
        if item:
            self._note(path)
            self._items[path] = self._items.get(path, -1) + 1
            path = (*path, self._items[path])
        # A table's own header says more than the header of a table inside it, which may come first.
        self.places[path] = Place(self.line, self.at, self.at)
        return path

    def _pair(self, table: KeyPath) -> None:
        line = self.line
        path = table
        for part in self.key():
            path = (*path, part)
            self._note(path)
        self._eat("=")
        self._skip(self._space)
        self._value(path, line)

    def _note(self, path: KeyPath) -> None:
        self.places.setdefault(path, Place(self.line, self.at, self.at))

    def _value(self, path: KeyPath, line: int) -> None:
        start = self.at
        if self._eat("["):
            self._list(path)
        elif self._eat("{"):
            self._inline(path)
        elif not self._skip(self._string):
            self._skip(self._scalar)
        self.places[path] = Place(line, start, self.at)

    def _list(self, path: KeyPath) -> None:
        index = 0
        while not self.done() and not self._eat("]"):
            self._value((*path, index), self.line)
            index += 1
            self.done()
            self._eat(",")

    def _inline(self, path: KeyPath) -> None:
        while not self.done() and not self._eat("}"):
            self._pair(path)
            self.done()
            self._eat(",")

    def _eat(self, sign: str) -> bool:
        found = self.text.startswith(sign, self.at)
        self.at += len(sign) if found else 0
        return found

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self.text, self.at)
        if match is None:
            return False
        self.line += match.group().count("\n")
        self.at = match.end()
        return True


def _unquoted(key: str) -> str:
    if key[0] not in "\"'":
        return key
    value: str = tomli.loads(f"key = {key}")["key"]
    return value


def write_toml(data: Mapping[str, Json], note: Callable[[KeyPath], str] = lambda _: "") -> str:
    """Return `data` as TOML; None values are left out, and `note` gives the comment behind a value."""
    return "\n".join(_lines(data, (), note)).strip("\n") + "\n"


def _lines(table: Mapping[str, Json], path: KeyPath, note: Callable[[KeyPath], str]) -> Iterator[str]:
    sections = {key: value for key, value in table.items() if _is_section(value)}
    for key, value in table.items():
        if key not in sections and value is not None:
            comment = note((*path, key))
            yield f"{dotted((key,))} = {_literal(value)}" + (f"  # {comment}" if comment else "")
    for key, section in sections.items():
        inner = (*path, key)
        if isinstance(section, dict):
            yield from ("", f"[{_header_name(inner)}]")
            yield from _lines(section, inner, note)
        elif isinstance(section, list):
            for index, item in enumerate(section):
                yield from ("", f"[[{_header_name(inner)}]]")
                yield from _lines(item if isinstance(item, dict) else {}, (*inner, index), note)


def _header_name(path: KeyPath) -> str:
    return dotted(tuple(part for part in path if isinstance(part, str)))


def _is_section(value: Json) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)
    )


def _literal(value: Json) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, list):
        return "[" + ", ".join(_literal(item) for item in value if item is not None) + "]"
    if isinstance(value, dict):
        pairs = (f"{dotted((key,))} = {_literal(item)}" for key, item in value.items() if item is not None)
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    return json.dumps(value)
