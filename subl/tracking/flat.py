"""Recipes as flat MLflow parameters: dotted names that compare well across runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MAX_PARAM = 6000
MAX_TAG = 5000
MAX_NAME = 250


def flatten(params: Mapping[str, Any]) -> dict[str, str]:
    """Return nested parameters as dotted name → text; absent (None) values are left out.

    A list of tables is keyed by what names its items (`name`, else `plugin`), so that a filter added in front does not
    shift the names of the others.
    """
    return {clean_name(name): shorten(_text(value), MAX_PARAM) for name, value in _leaves("", params)}


def clean_name(name: str) -> str:
    """Return a metric, parameter or tag name that MLflow accepts."""
    parts = re.sub(r"[^\w.\- :/]", "_", name)[:MAX_NAME].split("/")
    return "/".join(part for part in parts if part.strip(".")) or "_"


def shorten(text: str, limit: int) -> str:
    """Return at most `limit` characters, with a sign where text was cut."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Sequence) and not isinstance(value, str) and value and _all_tables(value):
        value = dict(zip(_item_names(value), value, strict=True))
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(f"{prefix}.{key}" if prefix else str(key), item)
    elif value is not None:
        yield prefix, value


def _all_tables(items: Sequence[Any]) -> bool:
    return all(isinstance(item, Mapping) for item in items)


def _item_names(items: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [str(item.get("name") or item.get("plugin") or number) for number, item in enumerate(items)]
    return [f"{name}#{number}" if names.count(name) > 1 else name for number, name in enumerate(names)]


def _text(value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
