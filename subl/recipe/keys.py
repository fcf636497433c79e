"""Which keys a recipe may hold, given the plugins that it picks: for suggestions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from subl.errors import SublError, closest, suggest
from subl.recipe.model import ProbeUse, Recipe
from subl.recipe.toml import KeyPath, dotted
from subl.registry.registry import registry
from subl.registry.slots import PLUGIN_KEY, WRAPS_KEY, Use

FILE_KEYS = ("extends", "unset", "plugins", "arms", "sweep")
"""Keys of a file that are no part of the resolved recipe."""


def unknown_key(path: KeyPath, data: Any) -> str:
    """Return the message for a key that nothing takes: the same key elsewhere, else one like it, else those known."""
    name = str(path[-1])
    if name == WRAPS_KEY:
        return "there is nothing to wrap: no layer below picks another plugin here"
    every = dict.fromkeys(key for key, _ in _walk(Recipe, data))
    same = [dotted(key) for key in every if key[-1] == name and key != path]
    if same:
        return f"unknown key; did you mean {' or '.join(map(repr, same[:3]))}?"
    siblings = {str(key[-1]) for key in every if key[:-1] == path[:-1]}
    siblings |= set(FILE_KEYS) if len(path) == 1 else set()
    if closest(name, siblings) is None and len(siblings) > 1:
        siblings.discard(PLUGIN_KEY)
    return f"unknown key{suggest(name, siblings)}"


def _walk(model: type[BaseModel], data: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Yield the path and annotation of every key that a table may hold."""
    table = data if isinstance(data, Mapping) else {}
    for name, info in model.model_fields.items():
        if model is ProbeUse and name == "chosen":
            yield from _walk_slot(Use("probe"), table, path)
            continue
        key = (*path, name)
        yield key, info.annotation
        for inner in _inner((info.annotation, *info.metadata)):
            value = table.get(name)
            items = [((*key, n), item) for n, item in enumerate(value)] if isinstance(value, list) else [(key, value)]
            for place, item in items:
                yield from _walk_slot(inner, item, place) if isinstance(inner, Use) else _walk(inner, item, place)


def _walk_slot(use: Use, data: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    yield (*path, PLUGIN_KEY), str
    name = data.get(PLUGIN_KEY) if isinstance(data, Mapping) else None
    settings = plugin_settings(use.kind, name)
    if settings is not None:
        yield from _walk(settings, data, path)


def plugin_settings(kind: str, name: Any) -> type[BaseModel] | None:
    """Return the settings class of a plugin, None if it cannot be had."""
    if not isinstance(name, str):
        return None
    try:
        config: type[BaseModel] = registry.load(kind, name).Config
    except SublError:
        return None
    return config


def _inner(annotations: tuple[Any, ...]) -> Iterator[Use | type[BaseModel]]:
    for annotation in annotations:
        if isinstance(annotation, Use) or _is_model(annotation):
            yield annotation
        elif get_origin(annotation) is Annotated:
            yield from _inner(annotation.__metadata__ or ())
            yield from _inner(get_args(annotation)[:1])
        elif get_args(annotation):
            yield from _inner(get_args(annotation))


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel)
