"""Settings of plugins: strict pydantic models whose docstrings are the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """A frozen model that refuses unknown keys and reads field docs from the strings under the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


class PluginConfig(StrictModel):
    """Base of every plugin's settings. Put a docstring under every field: users read it."""


class Runtime:
    """Marks a setting that changes speed or placement, never the result.

    Use as `batch_size: Annotated[int, Runtime] = 32`. Such fields stay out of the fingerprint.
    """


@runtime_checkable
class Keyed(Protocol):
    """A setting that says itself what of it decides results: a plugin that another plugin's settings choose."""

    def key(self) -> dict[str, Any]:
        """Return what identifies it, as JSON values."""
        ...


def semantic(config: StrictModel) -> dict[str, Any]:
    """Return the settings as JSON values without `Runtime` fields, at any depth."""
    result: dict[str, Any] = {}
    dumped = config.model_dump(mode="json")
    for name, info in type(config).model_fields.items():
        if any(mark is Runtime or isinstance(mark, Runtime) for mark in info.metadata):
            continue
        result[name] = _semantic(getattr(config, name), dumped[name])
    return result


def _semantic(value: Any, dumped: Any) -> Any:
    if isinstance(value, StrictModel):
        return semantic(value)
    if isinstance(value, Keyed):
        return value.key()
    if isinstance(value, set | frozenset):
        return sorted(dumped)  # their own order changes from process to process
    if isinstance(value, tuple | list):
        return [_semantic(item, shown) for item, shown in zip(value, dumped, strict=True)]
    if isinstance(value, Mapping):
        return {shown: _semantic(item, dumped[shown]) for shown, item in zip(dumped, value.values(), strict=True)}
    return dumped
