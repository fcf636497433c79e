"""Settings of plugins: strict pydantic models whose docstrings are the documentation."""

from __future__ import annotations

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


def semantic(config: StrictModel) -> dict[str, object]:
    """Return the settings as JSON values without `Runtime` fields, at any depth."""
    result: dict[str, object] = {}
    dumped = config.model_dump(mode="json")
    for name, info in type(config).model_fields.items():
        if any(mark is Runtime or isinstance(mark, Runtime) for mark in info.metadata):
            continue
        value = getattr(config, name)
        result[name] = semantic(value) if isinstance(value, StrictModel) else dumped[name]
    return result
