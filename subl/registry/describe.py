"""What users see of a plugin: its settings with type, default and meaning."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from subl.artifacts import Json
from subl.registry.config import Runtime
from subl.registry.slots import Use

SECTIONS = {
    "model": "[teacher]",
    "trait": "[trait]",
    "inducer": "[inducer]",
    "generator": "[generator]",
    "filter": "[[filters]]",
    "distiller": "[distiller]",
    "probe": "[[probes]]",
}
"""Where a recipe picks a plugin of each kind."""

_NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "unset", dict: "table"}
_BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a plugin.

    Args:
        name: Its key, dotted where it stands in a table of its own.
        type: What it takes, in words.
        default: Its default as JSON; None if it is unset or required.
        required: Whether it must be given.
        runtime: Whether it changes speed only, never a result.
        doc: What it means.
    """

    name: str
    type: str
    default: Json
    required: bool
    runtime: bool
    doc: str


def settings(config: type[BaseModel], prefix: str = "", given: BaseModel | None = None) -> Iterator[Setting]:
    """Yield a Config's settings, those of its tables included; `given` holds defaults that are not the class's own."""
    for name, info in config.model_fields.items():
        required = info.is_required() and given is None
        value = None if required else getattr(given, name) if given else info.get_default(call_default_factory=True)
        table, optional = _table(info.annotation)
        doc = " ".join((info.description or "").split())
        if table is None or optional:
            runtime = any(mark is Runtime or isinstance(mark, Runtime) for mark in info.metadata)
            yield Setting(f"{prefix}{name}", describe_type(info), _json(value), required, runtime, doc)
        if table is not None:
            yield from settings(table, f"{prefix}{name}.", value if isinstance(value, table) else None)


def describe_type(info: FieldInfo) -> str:
    """Return a field's type in words, with its bounds: "whole number > 0 or unset"."""
    words = _words(info.annotation, info.metadata)
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _words(annotation: Any, marks: Sequence[Any] = ()) -> list[str]:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(inner[0], inner[1:])
    if origin in (Union, types.UnionType):
        first, *rest = inner
        return list(dict.fromkeys([*_words(first, marks), *(word for part in rest for word in _words(part))]))
    bounds = " and ".join(_bounds(marks))
    slots = [SECTIONS[mark.kind].strip("[]") for mark in marks if isinstance(mark, Use)]
    return slots or [f"{word} {bounds}".strip() for word in _plain_words(annotation, origin, inner)]


def _bounds(marks: Sequence[Any]) -> Iterator[str]:
    for mark in marks:
        if isinstance(mark, FieldInfo):
            yield from _bounds(mark.metadata)
        yield from (f"{sign} {getattr(mark, name)}" for name, sign in _BOUNDS.items() if hasattr(mark, name))


def _plain_words(annotation: Any, origin: Any, inner: tuple[Any, ...]) -> list[str]:
    if origin is Literal:
        return [json.dumps(choice) for choice in inner]
    if origin in (tuple, list, set, frozenset):
        items = [part for part in inner if part is not Ellipsis]
        if origin is tuple and Ellipsis not in inner:
            return [f"list of {len(items)}: {', '.join(' or '.join(_words(part)) for part in items)}"]
        return [f"list of {' or '.join(_words(items[0])) if items else 'values'}"]
    if origin is dict:
        return [f"table of {' or '.join(_words(inner[1]))}"]
    if isinstance(annotation, type) and issubclass(annotation, PurePath):
        return ["path"]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return ["table"]
    return [_NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))]


def _table(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    parts = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    tables = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
    return (tables[0] if len(tables) == 1 else None), len(parts) > 1


def _json(value: Any) -> Json:
    return cast("Json", to_jsonable_python(value, fallback=str, inf_nan_mode="constants"))
