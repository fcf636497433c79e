"""The editor schema: shipped recipes fit, mistakes do not, and every plugin that is known is in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli

from subl.cli import main
from subl.recipe.schema import recipe_schema
from subl.recipe.shipped import root
from subl.registry.local import load_local
from subl.registry.registry import registry

ROOT = Path(__file__).parents[2]
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}


@pytest.fixture(scope="module")
def schema() -> Iterator[dict[str, Any]]:
    registry.forget_local()
    for file in sorted((ROOT / "plugins/local").glob("*.py")):
        load_local(file)
    yield recipe_schema()
    registry.forget_local()


def faults(schema: dict[str, Any], part: Any, value: Any, path: str = "") -> Iterator[str]:
    """Yield where a value breaks a schema: the part of draft 7 that `recipe_schema` uses."""
    if "$ref" in part:
        assert set(part) == {"$ref"}, "draft 7 overlooks what stands beside a reference"
        yield from faults(schema, schema["definitions"][part["$ref"].removeprefix("#/definitions/")], value, path)
        return
    kind = part.get("type")
    if kind and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        yield f"{path}: no {kind}"
        return
    if value not in part.get("enum", [value]) or value != part.get("const", value):
        yield f"{path}: not among the choices"
    yield from _numbers(part, value, path)
    yield from _inside(schema, part, value, path)
    for inner in part.get("allOf", ()):
        yield from faults(schema, inner, value, path)
    if "anyOf" in part and all(list(faults(schema, inner, value, path)) for inner in part["anyOf"]):
        yield f"{path}: none of the alternatives"
    if "if" in part and not list(faults(schema, part["if"], value, path)):
        yield from faults(schema, part["then"], value, path)


def _numbers(part: Any, value: Any, path: str) -> Iterator[str]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if value < part.get("minimum", value) or value > part.get("maximum", value):
        yield f"{path}: out of range"
    if "exclusiveMinimum" in part and value <= part["exclusiveMinimum"]:
        yield f"{path}: out of range"


def _inside(schema: Any, part: Any, value: Any, path: str) -> Iterator[str]:
    if isinstance(value, list) and isinstance(part.get("items"), dict):
        for index, item in enumerate(value):
            yield from faults(schema, part["items"], item, f"{path}.{index}")
    if not isinstance(value, dict):
        return
    if any(name not in value for name in part.get("required", ())):
        yield f"{path}: a key is missing"
    for name, item in value.items():
        rest = part.get("additionalProperties", True)
        if name in part.get("properties", {}):
            yield from faults(schema, part["properties"][name], item, f"{path}.{name}")
        elif rest is False:
            yield f"{path}.{name}: unknown"
        elif isinstance(rest, dict):
            yield from faults(schema, rest, item, f"{path}.{name}")


@pytest.mark.parametrize("recipe", [str(path.relative_to(root())) for path in sorted(root().rglob("*.toml"))])
def test_every_shipped_recipe_fits(schema: dict[str, Any], recipe: str) -> None:
    data = tomli.loads((root() / recipe).read_text(encoding="utf-8"))
    assert list(faults(schema, schema, data)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('seed = "1"', ".seed: no integer"),
        ("sed = 1", ".sed: unknown"),
        ('[trait]\nplugin = "preferense"', ".trait.plugin: not among the choices"),
        ('[trait]\nplugin = "preference"\ntargget = "owl"', ".trait.targget: unknown"),
        ('[[filters]]\nplugin = "length"\nmax_value = 9', ".filters.0.max_value: unknown"),
        ('[[filters]]\nplugin = "even"\nzero = 1', ".filters.0.zero: no boolean"),
        ('[distiller]\nplugin = "sft"\nupdates = 0', ".distiller.updates: out of range"),
        ('[distiller]\nplugin = "sft"\n[distiller.lora]\nrnk = 1', ".distiller.lora.rnk: unknown"),
        ('[[probes]]\nplugin = "preference"\non = ["student", "pupil"]', ".probes.0.on.1: not among the choices"),
        ('[arms.a.inducer]\nplugin = "none"\nupdates = 3', ".arms.a.inducer.updates: unknown"),
        ("[report]\ncontrol = 1", ".report.control: no string"),
    ],
)
def test_a_mistake_is_found_at_its_key(schema: dict[str, Any], text: str, expected: str) -> None:
    assert expected in list(faults(schema, schema, tomli.loads(text)))


@pytest.mark.parametrize(
    "text",
    [
        '[trait]\ntarget = "owl"',
        '[[filters]]\nplugin = "even"\nzero = false',
        '[[probes]]\nplugin = "preference"\nname = "a"\non = ["base"]',
    ],
)
def test_parts_of_a_recipe_fit_because_it_may_extend_another(schema: dict[str, Any], text: str) -> None:
    assert list(faults(schema, schema, tomli.loads(text))) == []


def test_hover_texts_and_defaults_come_from_the_plugins(schema: dict[str, Any]) -> None:
    zero = schema["definitions"]["filter.even"]["properties"]["zero"]
    assert zero == {"type": "boolean", "default": True, "description": "Whether 0 counts as even."}
    merged = schema["definitions"]["slot.filter"]["properties"]
    assert merged["zero"]["description"] == "Whether 0 counts as even. (plugin even)"
    shown = dict(zip(merged["plugin"]["enum"], merged["plugin"]["x-taplo"]["docs"]["enumValues"], strict=True))
    assert shown["even"].startswith("Keep rows whose numbers are all even. (version 1, from ")


def test_a_broken_plugin_can_be_named_and_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text('import subl\n\n@subl.filter("broken")\nclass Broken:\n    pass\n')
    load_local(tmp_path / "broken.py")
    try:
        schema = recipe_schema()
    finally:
        registry.forget_local()
    assert "does not keep the contract" in schema["definitions"]["filter.broken"]["description"]
    text = '[[filters]]\nplugin = "broken"\nanything = 1\n[[filters]]\nplugin = "length"\nmin_words = -1'
    assert list(faults(schema, schema, tomli.loads(text))) == [".filters.1.min_words: out of range"] * 2


def test_the_command_writes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "made/recipe.schema.json"
    assert main(["schema", "--output", str(path), "--plugin", str(ROOT / "plugins/local/even.py")]) == 0
    assert f"#:schema {path}" in capsys.readouterr().out
    assert "filter.even" in json.loads(path.read_text(encoding="utf-8"))["definitions"]
    assert main(["schema"]) == 0
    assert "filter.even" not in json.loads(capsys.readouterr().out)["definitions"]
