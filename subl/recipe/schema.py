"""JSON schema of a recipe file."""

from __future__ import annotations

from typing import Any

from subl.recipe.model import LISTS, SLOTS, ProbeUse, Recipe
from subl.registry.schema import Schema, model_schema, plugin_definitions, slot_name


def recipe_schema() -> Schema:
    """Return the schema (draft 7) of recipe files, with every known plugin's settings."""
    definitions = plugin_definitions()
    properties = _sections(definitions)
    definitions["arm"] = {
        "type": "object",
        "description": "An overlay on the recipe.",
        "properties": {**properties, "unset": _texts("Keys to remove.")},
        "additionalProperties": False,
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "subl recipe",
        "type": "object",
        "properties": {
            "extends": _texts("Recipes below this one: shipped names, or files relative to this one."),
            "plugins": _texts("Local plugin files, relative to this file."),
            "unset": _texts("Keys to remove from what this recipe extends."),
            **properties,
            "arms": {
                "type": "object",
                "description": "Overlays that are run and compared.",
                "additionalProperties": {"$ref": "#/definitions/arm"},
            },
            "sweep": {
                "type": "object",
                "description": "Settings and the values that they take; every combination is run.",
            },
        },
        "additionalProperties": False,
        "definitions": definitions,
    }


def _sections(definitions: dict[str, Schema]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    fields = {name: info for name, info in Recipe.model_fields.items() if name not in (*SLOTS, *LISTS)}
    for name, kind in SLOTS.items():
        found[name] = {"$ref": f"#/definitions/{slot_name(kind)}"}
    for name, kind in LISTS.items():
        definitions.setdefault("probe_use", _probe_use(definitions))
        item = "probe_use" if kind == "probe" else slot_name(kind)
        found[name] = {"type": "array", "items": {"$ref": f"#/definitions/{item}"}}
    for name, info in fields.items():
        schema = model_schema(info.rebuild_annotation(), definitions, "recipe")
        found[name] = {**schema, **({"description": info.description} if info.description else {})}
    return found


def _probe_use(definitions: dict[str, Schema]) -> Schema:
    """Return the table of a probe: the plugin's own keys and the recipe's."""
    own = model_schema(ProbeUse, definitions, "recipe")["properties"]
    slot = definitions[slot_name("probe")]
    extra = {name: own[name] for name in ("on", "name")}
    rules = []
    for rule in slot["allOf"]:
        plugin = definitions[rule["then"]["$ref"].removeprefix("#/definitions/")]
        if "properties" in plugin:
            plugin = {**plugin, "properties": {**plugin["properties"], **extra}}
        rules.append({"if": rule["if"], "then": plugin})
    return {**slot, "properties": {**slot["properties"], **extra}, "allOf": rules}


def _texts(description: str) -> Schema:
    return {
        "description": description,
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
