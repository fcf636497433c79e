"""Slots: tables that pick a plugin inside any model, and what users see of a plugin's settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from subl.registry.config import PluginConfig, Runtime, StrictModel
from subl.registry.describe import settings
from subl.registry.local import load_local
from subl.registry.registry import registry
from subl.registry.slots import Chosen, Use, read_settings
from tests.recipe.kit import PLUGINS


class Holder(StrictModel):
    one: Annotated[Chosen, Use("distiller")]
    many: tuple[Annotated[Chosen, Use("filter")], ...] = ()
    size: int = 1


@pytest.fixture(autouse=True)
def _plugins(tmp_path: Path) -> Iterator[None]:
    registry.forget_local()
    (tmp_path / "plugins.py").write_text(PLUGINS)
    load_local(tmp_path / "plugins.py")
    yield
    registry.forget_local()


def faults(model: type[StrictModel], data: dict[str, Any]) -> dict[tuple[str | int, ...], str]:
    with pytest.raises(ValidationError) as caught:
        read_settings(model, data)
    return {error["loc"]: error["msg"] for error in caught.value.errors()}


def test_a_plugin_that_appears_after_the_model_was_made_is_found() -> None:
    held = read_settings(Holder, {"one": {"plugin": "copy", "epochs": 4}, "many": [{"plugin": "odd"}]})
    assert (held.one.kind, held.one.name, held.many[0].name) == ("distiller", "copy", "odd")
    assert held.one.table() == {
        "plugin": "copy",
        "epochs": 4,
        "learning_rate": 1e-3,
        "lora": {"rank": 8, "targets": "all"},
    }


def test_a_model_with_slots_survives_json() -> None:
    held = read_settings(Holder, {"one": {"plugin": "copy"}, "many": [{"plugin": "odd", "max_value": 3}]})
    assert Holder.model_validate_json(held.model_dump_json()) == held
    assert Holder.model_validate(held.model_dump()) == held
    assert read_settings(Holder, {"one": held.one, "many": list(held.many)}) == held


def test_all_slots_report_in_one_pass_at_the_recipes_own_paths() -> None:
    data = {"one": {"plugin": "copy", "epochs": 0}, "many": [{"plugin": "odd"}, {"plugin": "od"}], "size": "3"}
    assert faults(Holder, data) == {
        ("one", "epochs"): "Input should be greater than or equal to 1",
        ("many", 1, "plugin"): "unknown filter 'od'; did you mean 'odd'?",
        ("size",): "Input should be a valid integer",
    }


def test_a_slot_inside_a_plugins_own_settings_works() -> None:
    table = {"plugin": "digits", "first": {"plugin": "digits", "samples": 3}}
    chosen = Use("generator").choose(table)
    inner = chosen.config.first  # type: ignore[attr-defined]
    assert (inner.name, inner.config.samples) == ("digits", 3)
    with pytest.raises(ValidationError) as caught:
        Use("generator").choose({"plugin": "digits", "first": {"plugin": "digits", "samples": 0}})
    assert caught.value.errors()[0]["loc"] == ("first", "samples")


def test_a_chosen_plugin_of_another_kind_is_refused() -> None:
    odd = Use("filter").choose({"plugin": "odd"})
    with pytest.raises(ValidationError, match="should be a table with a `plugin` key"):
        Use("distiller").choose(odd)


class Loose(PluginConfig):
    number: float = 1.0
    count: int = 1
    flag: bool = False
    names: tuple[str, ...] = ()
    folder: Path = Path()

    @model_validator(mode="before")
    @classmethod
    def _copy(cls, data: Any) -> Any:
        return dict(data)


def test_what_toml_can_say_is_read_even_behind_a_plugins_own_validator() -> None:
    read = read_settings(Loose, {"number": 1, "count": 3e4, "names": ["a"], "folder": "x/y"})
    assert (read.number, read.count, read.names, read.folder) == (1.0, 30000, ("a",), Path("x/y"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("number", "1"),
        ("number", True),
        ("count", "3"),
        ("count", True),
        ("count", 2.5),
        ("flag", 1),
        ("flag", "yes"),
        ("names", "a"),
        ("names", [1]),
        ("folder", 3),
    ],
)
def test_a_value_of_another_type_is_refused(key: str, value: Any) -> None:
    assert next(iter(faults(Loose, {key: value})))[0] == key


class Inner(StrictModel):
    rank: Annotated[int, Field(gt=0, le=64)] = 8
    """Rank."""


class Described(PluginConfig):
    must: str
    """Has to be given,
    on two lines."""
    batch_size: Annotated[int, Runtime] = 32
    choice: Literal["a", "b"] | tuple[str, ...] = "a"
    maybe: Annotated[float, Field(gt=0)] | None = None
    weights: dict[str, float] = {}  # noqa: RUF012 (pydantic copies it)
    pair: tuple[int, int] = (0, 1)
    inner: Inner = Inner(rank=16)
    other: Inner | None = None
    folder: Path = Path("x")
    first: Annotated[Chosen, Use("generator")] | None = None


def test_settings_are_described_in_words_with_bounds_and_defaults() -> None:
    listed = {s.name: (s.type, s.default, s.required, s.runtime) for s in settings(Described)}
    assert listed == {
        "must": ("text", None, True, False),
        "batch_size": ("whole number", 32, False, True),
        "choice": ('"a", "b" or list of text', "a", False, False),
        "maybe": ("number > 0 or unset", None, False, False),
        "weights": ("table of number", {}, False, False),
        "pair": ("list of 2: whole number, whole number", [0, 1], False, False),
        "inner.rank": ("whole number > 0 and ≤ 64", 16, False, False),
        "other": ("table or unset", None, False, False),
        "other.rank": ("whole number > 0 and ≤ 64", 8, False, False),
        "folder": ("path", "x", False, False),
        "first": ("generator or unset", None, False, False),
    }
    assert next(settings(Described)).doc == "Has to be given, on two lines."
    json.dumps([s.default for s in settings(Described)])
