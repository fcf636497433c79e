"""What tells two resolved tables apart, leaf by leaf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted path and value of everything inside tables; an item of a list of tables goes by its name.

    So a filter that is added in front does not shift the names of the others.
    """
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and value and all(isinstance(item, Mapping) for item in value):
        names = [str(item.get("name") or item.get("plugin") or number) for number, item in enumerate(value)]
        for number, (name, item) in enumerate(zip(names, value, strict=True)):
            known = f"{name}#{number}" if names.count(name) > 1 else name
            yield from leaves(item, f"{path}.{known}" if path else known)
    else:
        yield path, value


def differences(first: Any, second: Any) -> dict[str, tuple[Any, Any]]:
    """Return dotted path → (first value, second value) of everything that differs; None where one has nothing."""
    here, there = dict(leaves(first)), dict(leaves(second))
    paths = dict.fromkeys([*here, *there])
    return {path: (here.get(path), there.get(path)) for path in paths if here.get(path) != there.get(path)}
