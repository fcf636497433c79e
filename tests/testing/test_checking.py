"""What the check for plugin authors finds, and what it lets pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from pydantic import Field

import subl
from subl.registry.builtins import BUILTINS
from subl.registry.kinds import KindName
from subl.registry.registry import registry
from subl.testing import check, faults
from tests.testing import heavy_plugin


class Plain:
    """Does as a filter should."""

    class Config(subl.PluginConfig):
        """Settings."""

        limit: int = Field(default=3, gt=0)
        """A limit."""

    version = 1

    def __init__(self, config: Any) -> None:
        self.config = config

    def reject(self, rows: Sequence[subl.Row], ctx: subl.Context) -> list[Any]:
        return [None for _ in rows]


class Undocumented(Plain):
    """A setting has no docstring."""

    class Config(subl.PluginConfig):
        limit: int = 3


class Refused(Plain):
    """Its default is refused by itself."""

    class Config(subl.PluginConfig):
        limit: int = Field(default=0, gt=0)
        """A limit."""


class Fails(Plain):
    """Raises when it is made."""

    def __init__(self, config: Any) -> None:
        raise KeyError("weather")


class TooFew(Plain):
    """Gives one reason too few."""

    def reject(self, rows: Sequence[subl.Row], ctx: subl.Context) -> list[Any]:
        return [None for _ in rows[1:]]


class Strange(Plain):
    """Gives what is no reason."""

    def reject(self, rows: Sequence[subl.Row], ctx: subl.Context) -> list[Any]:
        return [False for _ in rows]


class Batchwise(Plain):
    """Drops the first row of every batch."""

    def reject(self, rows: Sequence[subl.Row], ctx: subl.Context) -> list[Any]:
        return ["first", *(None for _ in rows[1:])]


class Raises(Plain):
    """Raises on the first row without a number."""

    def reject(self, rows: Sequence[subl.Row], ctx: subl.Context) -> list[Any]:
        return [None if int(row.completion.split(",")[0]) else "zero" for row in rows]


@pytest.mark.parametrize(
    ("plugin", "fault"),
    [
        (Undocumented, "setting 'limit' has no docstring"),
        (Refused, "its settings are refused: ('limit',): Input should be greater than 0"),
        (Fails, "it cannot be made from its settings: KeyError: 'weather'"),
        (TooFew, "reject gave 7 reasons for 8 rows; one per row, or None"),
        (Strange, "reject gave False; a reason is a short text, and None keeps the row"),
        (Batchwise, "reject depends on how rows are batched"),
        (Raises, "ValueError while it was tried out: invalid literal for int()"),
        (heavy_plugin.Heavy, "its module imports numpy when it is named; import it in the method"),
    ],
)
def test_a_fault_is_found_alone(plugin: type, fault: str) -> None:
    (found,) = faults("filter", plugin)
    assert found.startswith(fault)


def test_faults_of_the_contract_come_first_and_the_error_names_class_and_file() -> None:
    with pytest.raises(
        subl.PluginError, match=r"^probe Plain \(.*test_checking\.py:\d+\):\n  - it has no method probe"
    ):
        check("probe", Plain)


class Drifting:
    """Prompts differ from call to call."""

    class Config(subl.PluginConfig):
        """Nothing."""

    version = 1
    calls = 0

    def __init__(self, config: Any) -> None:
        self.config = config

    def prompts(self, count: int, seed: int) -> list[str]:
        Drifting.calls += 1
        return [f"{Drifting.calls} {index}" for index in range(count)]

    def generate(self, teacher: subl.Teacher, ctx: subl.Context, start: int) -> Iterator[subl.Row]:
        yield from ()


def test_prompts_that_are_no_stream_are_found() -> None:
    assert faults("generator", Drifting)[0].startswith("prompts is no stream")


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, table in BUILTINS.items() for name in table])
def test_built_ins_pass(kind: KindName, name: str) -> None:
    check(kind, registry.load(kind, name))


def test_settings_can_be_given_to_a_plugin_that_has_required_ones() -> None:
    class Needy(Plain):
        """Must be told a limit."""

        class Config(subl.PluginConfig):
            limit: int = Field(gt=0)
            """A limit."""

    assert faults("filter", Needy) == []
    assert faults("filter", Needy, {"limit": 1}) == []
    assert faults("filter", Needy, {"limit": 0})[0].startswith("its settings are refused: ('limit',)")
