"""TOML: the place of every key, and what is written reads back."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from subl.recipe.toml import Scanner, TomlError, dotted, leaves, parse_key, read_toml, write_toml

BARE = st.text("abcXYZ019_-", min_size=1, max_size=5)
QUOTED = st.text("ab .#=[]{}\"'\\\t,é", max_size=6)
KEYS = BARE | QUOTED
TEXTS = st.text("ab \n\"'\\#=[]{},é\t", max_size=12)
SCALARS = st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)
TABLES = st.dictionaries(KEYS, VALUES | st.lists(st.dictionaries(KEYS, VALUES, max_size=3), max_size=3), max_size=5)


class Writer:
    """Writes a table as TOML in many styles, and notes on which line each leaf's key went."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.text = ""
        self.lines: dict[tuple[str | int, ...], int] = {}

    @property
    def line(self) -> int:
        return self.text.count("\n") + 1

    def table(self, data: dict[str, Any], path: tuple[str | int, ...] = ()) -> None:
        sections = {}
        for key, value in data.items():
            if self._can_be_section(value) and self.rng.random() < 0.6:
                sections[key] = value
            elif isinstance(value, dict) and len(value) == 1 and self.rng.random() < 0.7:
                ((inner, leaf),) = value.items()
                self._pair((key, inner), leaf, path)
            else:
                self._pair((key,), value, path)
        for key, value in sections.items():
            items = value if isinstance(value, list) else [value]
            for index, item in enumerate(items):
                inner = (*path, key, index) if isinstance(value, list) else (*path, key)
                brackets = "[[", "]]" if isinstance(value, list) else "]"
                self._noise()
                opening = brackets[0] if isinstance(value, list) else "["
                name = " . ".join(self._key(part) for part in inner if isinstance(part, str))
                self.text += f"{self._space()}{opening}{self._space()}{name}{self._space()}{brackets[1]}{self._end()}"
                self.table(item, inner)

    @staticmethod
    def _can_be_section(value: Any) -> bool:
        if isinstance(value, dict):
            return True
        return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)

    def _pair(self, keys: tuple[str, ...], value: Any, path: tuple[str | int, ...]) -> None:
        self._noise()
        line = self.line
        self.text += self._space() + " . ".join(map(self._key, keys)) + f"{self._space()}={self._space()}"
        self._value(value, (*path, *keys), line)
        self.text += self._end()

    def _value(self, value: Any, path: tuple[str | int, ...], line: int) -> None:
        if isinstance(value, list):
            self.text += "["
            for index, item in enumerate(value):
                self.text += self._break()
                self._value(item, (*path, index), self.line)
                self.text += self._break() + ("," if index < len(value) - 1 or self.rng.random() < 0.5 else "")
            self.text += self._break() + "]"
        elif isinstance(value, dict):
            self.text += "{" + self._space()
            for index, (key, item) in enumerate(value.items()):
                self.text += ", " if index else ""
                where = self.line
                self.text += f"{self._key(key)}{self._space()}={self._space()}"
                self._value(item, (*path, key), where)
            self.text += self._space() + "}"
        else:
            self.lines[path] = line
            self.text += self._scalar(value)

    def _scalar(self, value: Any) -> str:
        if not isinstance(value, str):
            return write_toml({"v": value}).partition(" = ")[2].strip()
        plain = json.dumps(value, ensure_ascii=False)
        escaped = value.replace("\\", "\\\\")
        styles = [plain, '"""\n' + escaped.replace('"', '\\"') + '"""']
        if "'" not in value:
            styles.append(f"'''\n{value}'''")
            if "\n" not in value:
                styles.append(f"'{value}'")
        if '"""' not in value:
            styles.append(f'"""\n{escaped}"""')
        return self.rng.choice(styles)

    def _key(self, key: str) -> str:
        styles = [json.dumps(key, ensure_ascii=False)]
        if dotted((key,)) == key:
            styles.append(key)
        if "'" not in key:
            styles.append(f"'{key}'")
        return self.rng.choice(styles)

    def _noise(self) -> None:
        if self.rng.random() < 0.3:
            self.text += self.rng.choice(["\n", "# a = 1\n", "  # [a]\n\n", "\t\n", '# """\n'])

    def _space(self) -> str:
        return self.rng.choice(["", " ", "\t", "  "])

    def _break(self) -> str:
        return self.rng.choice(["", " ", "\n", "\n  # x = ]\n", "\n\n"])

    def _end(self) -> str:
        return self.rng.choice(["\n", "  \n", " # b = '''\n", "\r\n"])


@settings(max_examples=100, deadline=None)
@given(TABLES, st.randoms(use_true_random=False))
def test_every_leaf_has_the_line_of_its_key_and_the_span_of_its_value(
    table: dict[str, Any], rng: random.Random
) -> None:
    writer = Writer(rng)
    writer.table(table)
    data = tomli.loads(writer.text)
    places = Scanner(writer.text).document()
    assert {path: places[path].line for path, _ in leaves(data)} == writer.lines
    for path, value in leaves(data):
        span = writer.text[places[path].start : places[path].end]
        assert tomli.loads(f"v = {span}")["v"] == value


@settings(max_examples=50, deadline=None)
@given(TABLES)
def test_what_is_written_reads_back(table: dict[str, Any]) -> None:
    assert tomli.loads(write_toml(table)) == table


@given(st.lists(KEYS, min_size=1, max_size=4))
def test_a_dotted_key_reads_back(keys: list[str]) -> None:
    assert parse_key(dotted(tuple(keys))) == tuple(keys)


@pytest.mark.parametrize("text", ["", "a.", ".a", "a b", "a..b", "a]", '"a', "a=b", "ä"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a dotted key"):
        parse_key(text)


def test_tables_and_lists_have_places_too() -> None:
    places = Scanner("x = 1\n\n[a.b]\nc = 1\n\n[[f]]\n\n[[f]]\nd.e = 2\n[a]\n").document()
    lines = {dotted(path): place.line for path, place in places.items()}
    assert lines == {"x": 1, "a": 10, "a.b": 3, "a.b.c": 4, "f": 6, "f.0": 6, "f.1": 8, "f.1.d": 9, "f.1.d.e": 9}


@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize("ends", [0, 1, 2])
def test_long_texts_may_end_in_quotes(quote: str, ends: int) -> None:
    text = f"a = {quote * 3}x = 1\n{quote}{quote}y{quote * ends}{quote * 3}\nb = 2\n"
    places = Scanner(text).document()
    assert {dotted(path): place.line for path, place in places.items()} == {"a": 1, "b": 3}
    span = text[places["a",].start : places["a",].end]
    assert tomli.loads(f"a = {span}")["a"] == tomli.loads(text)["a"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a = 1\nb 2\n", "r.toml:2:3: expected '=' after a key in a key/value pair"),
        (b"a = \n", "r.toml:1:5: invalid value"),
        (b"a = 1\na = 2\n", "r.toml:2:6: cannot overwrite a value"),
        (b'a = "x\n', "r.toml:1:7: illegal character '\\n'"),
        (b"\xff\xfe", "r.toml: is not UTF-8 text (byte 0); save it as UTF-8"),
        (b"a = [2024-01-01]\n", 'r.toml:1: a.0: dates are not used in recipes; write it as text: "2024-01-01"'),
        (b"a = " + b"[" * 5000, "r.toml: values are nested too deeply"),
    ],
    ids=["no equals sign", "no value", "twice", "open text", "not utf-8", "date", "deep"],
)
def test_a_bad_file_is_named_with_line_and_column(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(content)
    with pytest.raises(TomlError) as caught:
        read_toml(path, "r.toml")
    assert str(caught.value) == message


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(TomlError, match="cannot be read: Is a directory"):
        read_toml(tmp_path)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1\r\n[b]\r\nc = 2\r\n")
    document = read_toml(path)
    assert document.data == {"a": 1, "b": {"c": 2}}
    assert document.places["b", "c"].line == 3


def test_values_that_are_unset_are_left_out_and_comments_stand_behind_values() -> None:
    notes = {("b", "c"): "x.toml:3", ("f", 0, "d"): "flag", ("a",): "nowhere"}
    text = write_toml({"a": None, "b": {"c": [1, 2], "e": []}, "f": [{"d": 1}]}, lambda path: notes.get(path, ""))
    assert text == "[b]\nc = [1, 2]  # x.toml:3\ne = []\n\n[[f]]\nd = 1  # flag\n"
