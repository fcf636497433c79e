"""Layers of a recipe: values that remember who set them, and the one function that merges them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import tomli

from subl.artifacts import Json
from subl.recipe.toml import KeyPath, dotted, leaves, parse_key
from subl.registry.slots import WRAPS_KEY

FLAG_RANK = 1_000_000


@dataclass(frozen=True, slots=True)
class Origin:
    """Who set a value: a line of a file, a flag, or a default.

    Args:
        where: The file as messages name it, or the flag as typed.
        line: The line in the file; None for flags and defaults.
        rank: Order of files and flags in reports; the recipe's own file is 0.
        column: The column, where only a parser knows what is wrong.
    """

    where: str
    line: int | None = None
    rank: int = 0
    column: int | None = None

    def __str__(self) -> str:
        return ":".join(str(part) for part in (self.where, self.line, self.column) if part is not None)


DEFAULT = Origin("default", rank=2 * FLAG_RANK)

Value: TypeAlias = "bool | int | float | str | tuple[Node, ...] | dict[str, Node] | None"


@dataclass(frozen=True, slots=True)
class Node:
    """A value with its origin; tables and lists hold nodes. Never changed in place."""

    value: Value
    origin: Origin

    @property
    def table(self) -> dict[str, Node]:
        """The nodes of a table; {} for anything else."""
        return self.value if isinstance(self.value, dict) else {}


def grow(data: Any, origin: Callable[[KeyPath], Origin], path: KeyPath = ()) -> Node:
    """Turn parsed TOML into nodes; `origin` says where each path was set."""
    if isinstance(data, dict):
        return Node({key: grow(item, origin, (*path, key)) for key, item in data.items()}, origin(path))
    if isinstance(data, list):
        return Node(tuple(grow(item, origin, (*path, n)) for n, item in enumerate(data)), origin(path))
    return Node(data, origin(path))


def plain(node: Node) -> Json:
    """Return the values without their origins."""
    if isinstance(node.value, dict):
        return {key: plain(item) for key, item in node.value.items()}
    if isinstance(node.value, tuple):
        return [plain(item) for item in node.value]
    return cast("Json", node.value)


def origins(node: Node, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Origin]]:
    """Yield the path and origin of every value; a list of plain values counts as one."""
    if isinstance(node.value, dict):
        for key, item in node.value.items():
            yield from origins(item, (*path, key))
    elif isinstance(node.value, tuple) and any(isinstance(item.value, dict) for item in node.value):
        for index, item in enumerate(node.value):
            yield from origins(item, (*path, index))
    else:
        yield path, node.origin


def find(node: Node, path: KeyPath) -> Node | None:
    """Return the node at a path, or None."""
    for key in path:
        child = _child(node, key)
        if child is None:
            return None
        node = child
    return node


def nearest(node: Node, path: KeyPath) -> Origin:
    """Return the origin of the deepest node on the way to a path."""
    for key in path:
        child = _child(node, key)
        if child is None:
            break
        node = child
    return node.origin


def merge(base: Node, over: Node) -> Node:
    """Lay `over` on `base`: tables merge, a table that picks another plugin replaces, all else replaces.

    A table that replaces with `wraps = "field"` keeps what it replaces, under that field of its own.
    """
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    if _switches(base.value, over.value):
        return _wrapped(base, over.value, over.origin)
    merged = dict(base.value)
    for key, node in over.value.items():
        merged[key] = merge(merged[key], node) if key in merged else node
    return Node(merged, over.origin)


def assign(base: Node, path: KeyPath, leaf: Node) -> Node:
    """Lay one value at a path on `base`, by the rules of `merge`; numbers in the path count list items.

    Raises:
        KeyError: The path leads into a list, but not to one of its items; says what the list has.
    """
    if not path:
        return merge(base, leaf)
    key, rest = path[0], path[1:]
    if isinstance(base.value, tuple):
        index = _index(key, base.value)
        if index is None:
            raise KeyError(_list_fault(base.value))
        items = list(base.value)
        items[index] = assign(items[index], rest, leaf)
        return Node(tuple(items), leaf.origin)
    over = assign(base.table.get(str(key), Node({}, leaf.origin)), rest, leaf) if rest else leaf
    return merge(base, Node({str(key): over}, leaf.origin))


def remove(base: Node, path: KeyPath) -> Node:
    """Return `base` without the value at a path.

    Raises:
        KeyError: Nothing is there.
    """
    key, rest = path[0], path[1:]
    child = _child(base, key)
    if child is None:
        raise KeyError(dotted(path))
    kept = remove(child, rest) if rest else None
    if isinstance(base.value, tuple):
        index = _index(key, base.value)
        items = (kept if n == index else item for n, item in enumerate(base.value))
        return Node(tuple(item for item in items if item is not None), base.origin)
    pairs = ((name, kept if name == key else item) for name, item in base.table.items())
    return Node({name: item for name, item in pairs if item is not None}, base.origin)


@dataclass(frozen=True, slots=True)
class Override:
    """One `--set KEY=VALUE`."""

    path: KeyPath
    node: Node


def parse_override(text: str, number: int = 0) -> Override:
    """Read `KEY=VALUE`: split at the first `=`; the value is TOML, else the bare string.

    Raises:
        ValueError: No `=`, or no key before it.
    """
    key, sign, value = text.partition("=")
    if not sign:
        raise ValueError("expected KEY=VALUE, e.g. --set trait.target=panda")
    try:
        path = parse_key(key)
    except ValueError:
        raise ValueError(f"{key!r} is not a key; expected KEY=VALUE, e.g. --set trait.target=panda") from None
    origin = Origin(f"--set {text}", rank=FLAG_RANK + number)
    return Override(path, grow(_toml_or_text(value), lambda _: origin))


def _toml_or_text(text: str) -> Any:
    try:
        parsed = tomli.loads(f"value = {text}")
    except (tomli.TOMLDecodeError, RecursionError):
        return text
    # A line break in the text could smuggle in other keys, and dates are not values of recipes.
    if parsed.keys() != {"value"} or any(not isinstance(v, bool | int | float | str) for _, v in leaves(parsed)):
        return text
    return parsed["value"]


def _switches(base: dict[str, Node], over: dict[str, Node]) -> bool:
    both = "plugin" in base and "plugin" in over
    return both and plain(base["plugin"]) != plain(over["plugin"])


def _wrapped(base: Node, over: dict[str, Node], origin: Origin) -> Node:
    field = over[WRAPS_KEY].value if WRAPS_KEY in over else None
    if not isinstance(field, str):
        return Node(over, origin)
    kept = {key: node for key, node in over.items() if key != WRAPS_KEY}
    return Node({**kept, field: merge(base, over[field]) if field in over else base}, origin)


def _child(node: Node, key: str | int) -> Node | None:
    if isinstance(node.value, tuple):
        index = _index(key, node.value)
        return None if index is None else node.value[index]
    return node.table.get(str(key))


def _index(key: str | int, items: tuple[Node, ...]) -> int | None:
    index = int(key) if str(key).isascii() and str(key).isdigit() else -1
    return index if 0 <= index < len(items) else None


def _list_fault(items: tuple[Node, ...]) -> str:
    if not items:
        return "the list is empty"
    last = len(items) - 1
    return "the list has one item, number 0" if not last else f"the list has items 0 to {last}"
