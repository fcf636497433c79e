"""From one variant's merged layers to a Recipe, or to problems with their places."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from subl.recipe.checks import Fault, faults
from subl.recipe.keys import FILE_KEYS, unknown_key
from subl.recipe.layers import Node, Origin, find, nearest, plain
from subl.recipe.model import SLOTS, Recipe
from subl.recipe.report import Problems
from subl.recipe.toml import KeyPath, dotted
from subl.registry.slots import PLUGIN_KEY, SLOT_ERROR, read_settings


def validate(tree: Node, problems: Problems, label: str = "") -> Recipe | None:
    """Return the recipe of a variant, None if it has problems; `label` names the variant in them."""
    data = {key: plain(node) for key, node in tree.table.items() if key not in FILE_KEYS}
    found: dict[KeyPath, list[str]] = {}
    recipe: Recipe | None = None
    try:
        recipe = read_settings(Recipe, data)
        sections: Mapping[str, Any] = {name: getattr(recipe, name) for name in Recipe.model_fields}
    except ValidationError as error:
        details = error.errors(include_url=False)
        for detail in details:
            path, message = _explain(detail, data)
            found.setdefault(path, []).append(message)
        sections = _valid_sections(data, {str(detail["loc"][0]) for detail in details if detail["loc"]})
    for path, message in faults(sections):
        found.setdefault(path, []).append(message)
    for path, messages in found.items():
        if not _said_of_teacher(path, messages, found, tree):
            origin = place(tree, path)
            problems.add(origin, dotted(path), "; or ".join(dict.fromkeys(messages)), only=label)
    return recipe if not found else None


def place(tree: Node, path: KeyPath) -> Origin:
    """Return where to mend a path: its own line; for a missing key the line that picks the plugin, or the table."""
    if find(tree, path) is None:
        for end in range(len(path) - 1, 0, -1):
            plugin = find(tree, (*path[:end], PLUGIN_KEY))
            if plugin is not None:
                return plugin.origin
    return nearest(tree, path)


def _said_of_teacher(path: KeyPath, messages: list[str], found: Mapping[KeyPath, list[str]], tree: Node) -> bool:
    """Return whether a student's problem is one that it took over from the teacher."""
    if path == ("student",) and ("teacher",) in found:
        return True
    twin = ("teacher", *path[1:])
    return path[:1] == ("student",) and found.get(twin) == messages and place(tree, twin) == place(tree, path)


def _valid_sections(data: Mapping[str, Any], bad: set[str]) -> dict[str, Any]:
    """Return the sections without problems, so that combinations of them are checked in the same pass."""
    sections: dict[str, Any] = {}
    for name, info in Recipe.model_fields.items():
        if name in data and name not in bad:
            adapter: TypeAdapter[Any] = TypeAdapter(info.rebuild_annotation())
            sections[name] = adapter.validate_json(json.dumps(data[name]))
        elif name not in data and not info.is_required():
            sections[name] = info.get_default()
    return sections


def _explain(detail: ErrorDetails, data: Any) -> Fault:
    """Return the path in the recipe and the message of one of pydantic's errors."""
    kind, message = detail["type"], detail["msg"]
    absent = kind == "missing" or (kind == SLOT_ERROR and detail["loc"][-1:] == (PLUGIN_KEY,))
    path = _path(detail["loc"], data, absent=absent)
    if kind == "extra_forbidden":
        return path, unknown_key(path, data)
    if kind == "missing":
        table = f"; add a [{path[0]}] table with a `{PLUGIN_KEY}` key" if len(path) == 1 and path[0] in SLOTS else ""
        return path, f"missing{table or ', and it has no default'}"
    if kind in ("value_error", "assertion_error"):
        return path, message.partition(", ")[2]
    if kind == SLOT_ERROR and not isinstance(detail["input"], dict | list):
        return path, message if path[-1:] == (PLUGIN_KEY,) else f"{message}, not {_show(detail['input'])}"
    if kind == SLOT_ERROR:
        return path, message
    reworded = _reworded(kind, message)
    return path, reworded if ", not " in reworded else f"{reworded}, not {_show(detail['input'])}"


def _path(location: tuple[str | int, ...], data: Any, *, absent: bool) -> KeyPath:
    """Drop the parts of pydantic's location that are no keys of the recipe, such as the branches of a union."""
    path: list[str | int] = []
    for position, part in enumerate(location):
        last = position == len(location) - 1
        known = isinstance(data, Mapping) and part in data
        known = known or (isinstance(data, list) and isinstance(part, int) and part < len(data))
        if known:
            data = data[part]
        if known or (last and absent):
            path.append(part)
    return tuple(path)


_TABLES = ("model_type", "model_attributes_type", "dict_type", "dataclass_type")
_LISTS = ("tuple_type", "list_type", "set_type", "frozen_set_type")


def _reworded(kind: str, message: str) -> str:
    if kind in _TABLES:
        return "should be a table"
    if kind in _LISTS:
        return "should be a list"
    plain_words = {"string_type": "should be a text", "bool_type": "should be true or false"}
    plain_words |= {"int_type": "should be a whole number", "int_from_float": "should be a whole number"}
    plain_words |= {"float_type": "should be a number"}
    _, _, expected = message.replace(" after validation", "").partition(" should ")
    return plain_words.get(kind) or (f"should {expected}" if expected else message)


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return "a table"
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else "a list" if isinstance(value, list) else f"{text[:59]}…"
