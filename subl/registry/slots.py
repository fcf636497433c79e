"""A place in a recipe, or in a plugin's settings, where a table picks a plugin by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from subl.artifacts import Json
from subl.errors import SublError
from subl.registry.config import PluginConfig, StrictModel, semantic
from subl.registry.kinds import KindName
from subl.registry.registry import Entry, article, registry

M = TypeVar("M", bound=StrictModel)

PLUGIN_KEY = "plugin"
WRAPS_KEY = "wraps"
"""In a table that replaces another plugin's: the field of the new plugin that takes the replaced table."""
SLOT_ERROR = "subl_slot"
"""Type of the errors that a slot raises; their messages are ready to print."""

_PLAIN_TYPES = frozenset({"int_type", "float_type", "string_type"})


@dataclass(frozen=True, slots=True)
class Chosen:
    """A plugin that a recipe picked, with its validated settings.

    Args:
        kind: The plugin's kind.
        name: Its name within the kind.
        config: Its settings.
        plugin: Its class, as it was when the recipe was read.
        entry: Where it came from, with the digest of a local file.
    """

    kind: KindName
    name: str
    config: PluginConfig
    plugin: type[Any] = field(compare=False, repr=False)
    entry: Entry = field(compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what the recipe says; another process looks the plugin up in its own registry."""
        return _looked_up, (self.kind, self.name, self.config)

    def build(self) -> Any:
        """Return a new instance of the plugin."""
        return self.plugin(self.config)

    def declares(self, attribute: str) -> bool:
        """Return whether the class, or one of its kind that it wraps, sets an optional flag, e.g. `sets_system`."""
        return bool(getattr(self.plugin, attribute, False)) or any(part.declares(attribute) for part in self._wrapped())

    @property
    def needs(self) -> tuple[str, ...]:
        """What the plugin reads beyond its arguments; one that wraps another of its kind also needs what that does."""
        own = tuple(getattr(self.plugin, "needs", ()))
        return tuple(dict.fromkeys((*own, *(need for part in self._wrapped() for need in part.needs))))

    @property
    def distributed(self) -> bool:
        """Whether several processes can share its work; one that wraps another of its kind only if that one can."""
        own = bool(getattr(self.plugin, "distributed", False))
        return own and all(part.distributed for part in self._wrapped())

    def _wrapped(self) -> Iterator[Chosen]:
        """Yield the plugins of its own kind that its settings pick, one by one or in lists."""
        for name in type(self.config).model_fields:
            value = getattr(self.config, name)
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Chosen) and item.kind == self.kind:
                    yield item

    def key(self) -> dict[str, Any]:
        """Return what identifies it: name, version, every setting that is not `Runtime`, a local file's hash.

        Settings are hashed by exclusion, so that a new field can never be forgotten. What settings only point to, such
        as the content of a data file, the plugin says itself by a method `identity(self)` that returns a mapping of
        JSON values. Models have it always, and the plan asks them once.

        Raises:
            SublError: What `identity` raises where the file or data set cannot be had.
        """
        key: dict[str, Any] = {
            "kind": self.kind,
            "plugin": self.name,
            "version": self.plugin.version,
            "config": semantic(self.config),
        }
        if self.kind != "model" and hasattr(self.plugin, "identity"):
            key["identity"] = dict(self.build().identity())
        return key | {"file": self.entry.digest} if self.entry.digest else key

    def table(self) -> dict[str, Json]:
        """Return the table that picks this plugin with these settings."""
        return {PLUGIN_KEY: self.name, **self.config.model_dump(mode="json")}


def _looked_up(kind: KindName, name: str, config: PluginConfig) -> Chosen:
    return Chosen(kind, name, config, registry.load(kind, name), registry.entry(kind, name))


def read_settings(model: type[M], settings: Mapping[str, Any]) -> M:
    """Validate settings as TOML gives them: lists as tuples, texts as paths, but no text or truth value as a number.

    Raises:
        ValidationError: With every mistake.
    """
    text = json.dumps(settings, default=_to_json)
    faults: dict[tuple[str | int, ...], InitErrorDetails] = {}
    result: M | None = None
    # Pydantic's strict mode alone would also refuse lists where a validator of the plugin runs first, and 3e4 as an
    # integer. So it only tells which plain values have the wrong type, and the lax mode does the rest.
    for strict in (True, False):
        try:
            result = model.model_validate_json(text, strict=strict)
        except ValidationError as error:
            for fault in error.errors(include_url=False):
                if not strict or _mistyped(fault["type"], fault["input"]):
                    kind = PydanticCustomError(fault["type"], fault["msg"])
                    detail = InitErrorDetails(type=kind, loc=fault["loc"], input=fault["input"])
                    faults.setdefault(fault["loc"], detail)
    if faults or result is None:
        raise ValidationError.from_exception_data(model.__name__, list(faults.values()))
    return result


def _mistyped(kind: str, value: Any) -> bool:
    return kind == "bool_type" or (kind in _PLAIN_TYPES and isinstance(value, bool | str))


def _to_json(value: Any) -> Any:
    return value.table() if isinstance(value, Chosen) else str(value)


@dataclass(frozen=True, slots=True)
class Use:
    """Annotates a field whose table names one plugin: `Annotated[Chosen, Use("filter")]`.

    The plugin is looked up when the table is validated, so only plugins that a recipe uses are imported, plugins may
    appear after the annotated class was created, and every mistake of every table comes out of one validation.
    """

    kind: KindName

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Validate by the chosen plugin's own settings; dump as the table."""
        return core_schema.no_info_plain_validator_function(
            self.choose, serialization=core_schema.plain_serializer_function_ser_schema(Chosen.table)
        )

    def choose(self, value: Any) -> Chosen:
        """Return the plugin that a table picks.

        Raises:
            ValidationError: No plugin, an unknown or broken one, or wrong settings; pydantic adds the outer location.
        """
        if isinstance(value, Chosen) and value.kind == self.kind:
            return value
        if not isinstance(value, Mapping):
            raise self._error((), f"should be a table with a `{PLUGIN_KEY}` key", value)
        settings = dict(value)
        if PLUGIN_KEY not in settings:
            known = ", ".join(registry.names(self.kind))
            raise self._error((PLUGIN_KEY,), f"missing; name {article(self.kind)}: {known}", value)
        name = settings.pop(PLUGIN_KEY)
        if not isinstance(name, str):
            raise self._error((PLUGIN_KEY,), f"should be the name of {article(self.kind)}, not {name!r}", name)
        try:
            entry, plugin = registry.entry(self.kind, name), registry.load(self.kind, name)
        except SublError as error:
            raise self._error((PLUGIN_KEY,), str(error), name) from error
        config = read_settings(plugin.Config, settings)
        return Chosen(self.kind, name, config, plugin, entry)

    def _error(self, location: tuple[str, ...], message: str, value: Any) -> ValidationError:
        detail = InitErrorDetails(type=PydanticCustomError(SLOT_ERROR, message), loc=location, input=value)
        return ValidationError.from_exception_data(self.kind, [detail])


def wrapping_fields(config: type[BaseModel], kind: str) -> list[str]:
    """Return the settings that pick another plugin of the same kind, so that one plugin wraps another."""
    return [
        name
        for name, info in config.model_fields.items()
        if any(isinstance(mark, Use) and mark.kind == kind for mark in info.metadata)
    ]
