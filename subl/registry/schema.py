"""JSON schema of a table that picks a plugin, for editors: completion, hover texts, and errors at the right key.

A slot is an object with every key that any plugin of its kind takes, so that editors complete and explain them even
where they do not follow conditions (taplo); one `if`/`then` per plugin then refuses the keys of the others (tombi, and
every validator of draft 7). Nothing is required, because a recipe may extend another that has the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from subl.errors import SublError
from subl.registry.kinds import KINDS
from subl.registry.registry import registry
from subl.registry.slots import PLUGIN_KEY, WRAPS_KEY, wrapping_fields

Schema: TypeAlias = dict[str, Any]

_SLOT = "x-subl-slot"
"""Stands for the reference to a slot while pydantic works, which follows references itself."""


def slot_name(kind: str) -> str:
    """Return the name of a kind's definition."""
    return f"slot.{kind}"


def plugin_definitions() -> dict[str, Schema]:
    """Return a definition per plugin, and per kind one of the tables that pick it.

    Plugins are imported for their settings; a broken one can be named, but its settings are not known.
    """
    found: dict[str, Schema] = {}
    for kind in KINDS:
        plugins = {name: _plugin(kind, name, found) for name in registry.names(kind)}
        found |= {f"{kind}.{name}": schema for name, schema in plugins.items()}
        found[slot_name(kind)] = _slot(kind, plugins)
    return found


def model_schema(model: Any, definitions: dict[str, Schema], prefix: str) -> Schema:
    """Return the schema of a pydantic model; what it refers to goes into `definitions`, below `prefix`."""
    schema = TypeAdapter(model).json_schema(
        schema_generator=_Generator, ref_template="#/definitions/" + prefix + ":{model}"
    )
    for name, inner in schema.pop("$defs", {}).items():
        definitions[f"{prefix}:{name}"] = tidy(inner)
    result: Schema = tidy(schema)
    return result


class _Generator(GenerateJsonSchema):
    """A slot is a validator function to pydantic; here it becomes the definition of its kind's tables."""

    def function_plain_schema(self, schema: core_schema.PlainValidatorFunctionSchema) -> JsonSchemaValue:
        use = getattr(schema["function"]["function"], "__self__", None)
        kind = getattr(use, "kind", None)
        return {_SLOT: kind} if kind in KINDS else super().function_plain_schema(schema)


def tidy(schema: Any) -> Any:
    """Drop what TOML does not have (null) or editors show as noise (titles made from names), at any depth."""
    if isinstance(schema, list):
        return [tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if _SLOT in schema:
        schema = {"$ref": f"#/definitions/{slot_name(schema[_SLOT])}", **schema}
    result: Schema = {}
    for key, value in schema.items():
        if _is_noise(key, value, schema):
            continue
        if key in ("default", "enum", "const", "examples"):
            result[key] = value
        elif key == "properties":
            result[key] = {name: tidy(inner) for name, inner in value.items()}
        elif key == "prefixItems":  # draft 7 says it with a list under "items"
            result["items"] = tidy(value)
        elif key in ("anyOf", "oneOf"):
            result[key] = [tidy(item) for item in value if item != {"type": "null"}]
        else:
            result[key] = tidy(value)
    return _plain(result)


def _is_noise(key: str, value: Any, schema: Schema) -> bool:
    if key in ("title", "required"):
        return not isinstance(value, dict)
    return key == _SLOT or (key == "default" and value is None) or (key == "items" and "prefixItems" in schema)


def _plain(schema: Schema) -> Schema:
    """Unwrap a choice among one, and put a reference beside other keys, which draft 7 would overlook, into an allOf."""
    choices = schema.get("anyOf")
    if isinstance(choices, list) and len(choices) == 1:
        schema = {**choices[0], **{key: value for key, value in schema.items() if key != "anyOf"}}
    if "$ref" in schema and len(schema) > 1:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return {"allOf": [{"$ref": schema["$ref"]}], **rest}
    return schema


def _plugin(kind: str, name: str, definitions: dict[str, Schema]) -> Schema:
    try:
        entry, plugin = registry.entry(kind, name), registry.load(kind, name)
    except SublError as error:
        return {"type": "object", "description": f"It cannot be loaded: {error}"}
    schema = model_schema(plugin.Config, definitions, f"{kind}.{name}")
    # A Config that refers to itself, or is shared, is a reference; a slot needs its keys.
    if set(schema) == {"$ref"}:
        schema = dict(definitions[schema["$ref"].removeprefix("#/definitions/")])
    doc = " ".join((plugin.__doc__ or "").split())
    schema["description"] = f"{doc} (version {plugin.version}, from {entry.origin.where})"
    schema["properties"] = {PLUGIN_KEY: {"const": name}, **schema.get("properties", {})}
    if fields := wrapping_fields(plugin.Config, kind):
        text = f"Where to put the {kind} of the layers below, with all its settings, when this one takes its place."
        schema["properties"][WRAPS_KEY] = {"description": text, "enum": fields}
    schema["additionalProperties"] = False
    return schema


def _slot(kind: str, plugins: Mapping[str, Schema]) -> Schema:
    opaque = any("properties" not in schema for schema in plugins.values())
    properties: dict[str, Any] = {
        PLUGIN_KEY: {
            "type": "string",
            "description": f"Which {kind}.",
            "enum": list(plugins),
            "x-taplo": {"docs": {"enumValues": [schema.get("description", "") for schema in plugins.values()]}},
        },
    }
    for key in dict.fromkeys(key for schema in plugins.values() for key in schema.get("properties", {})):
        if key != PLUGIN_KEY:
            properties[key] = _merged(key, plugins)
    rules = [
        {
            "if": {"properties": {PLUGIN_KEY: {"const": name}}, "required": [PLUGIN_KEY]},
            "then": {"$ref": f"#/definitions/{kind}.{name}"},
        }
        for name in plugins
    ]
    return {"type": "object", "properties": properties, "additionalProperties": opaque, "allOf": rules}


def _merged(key: str, plugins: Mapping[str, Schema]) -> Schema:
    """Return what a key may hold in any plugin, with who takes it."""
    takers = {
        name: schema["properties"][key] for name, schema in plugins.items() if key in schema.get("properties", {})
    }
    shapes: list[Schema] = []
    for schema in takers.values():
        shape = {part: value for part, value in schema.items() if part not in ("description", "default")}
        if shape not in shapes:
            shapes.append(shape)
    docs = dict.fromkeys(schema.get("description", "") for schema in takers.values())
    text = " / ".join(filter(None, docs)) + f" (plugin {', '.join(takers)})"
    shape = shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
    default = {"default": next(iter(takers.values()))["default"]} if _same_default(list(takers.values())) else {}
    return {"description": text, **shape, **default}


def _same_default(schemas: list[Schema]) -> bool:
    return all("default" in schema and schema["default"] == schemas[0].get("default") for schema in schemas)
