"""Whether a plugin keeps what its kind promises, as far as that shows without a model."""

from __future__ import annotations

import ast
import inspect
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from subl.artifacts import Json, Row
from subl.errors import PluginError
from subl.registry.describe import settings as described
from subl.registry.kinds import KindName
from subl.registry.registry import Origin, check_contract, describe_source
from subl.registry.slots import read_settings
from subl.testing.fakes import FakeTrait, context, rows

HEAVY = ("torch", "transformers", "trl", "peft", "mlflow", "matplotlib", "datasets", "scipy", "sklearn", "numpy")
"""What a plugin's module must not import before its method is called: naming a plugin must stay cheap."""

_ROWS = rows("1, 2, 3", "an owl", "", "7", "1, 2, 3", "  12;13 ", "–", "1 2 3 4 5 6 7 8 9 10")


def check(kind: KindName, plugin: type, settings: Mapping[str, Json] | None = None) -> None:
    """Check a plugin class: contract, documented settings, light module, and what its kind promises.

    Args:
        kind: What it claims to be.
        plugin: The class.
        settings: Settings to check it with; unset = the defaults.

    Raises:
        PluginError: Lists everything that is wrong.
    """
    found = faults(kind, plugin, settings)
    if found:
        listed = "\n".join(f"  - {fault}" for fault in found)
        raise PluginError(f"{kind} {plugin.__name__} ({describe_source(plugin)}):\n{listed}")


def faults(kind: KindName, plugin: type, settings: Mapping[str, Json] | None = None) -> list[str]:
    """Return everything that `check` would complain about."""
    try:
        check_contract(kind, plugin.__name__, plugin, Origin("local", "here", ""))
    except PluginError as error:
        return [line.removeprefix("  - ") for line in str(error).splitlines()[1:]]
    found = [f"setting {setting.name!r} has no docstring" for setting in described(plugin.Config) if not setting.doc]  # type: ignore[attr-defined]
    found += [f"its module imports {name} when it is named; import it in the method" for name in _heavy(plugin)]
    return found + list(_behaviour(kind, plugin, settings or {}))


def _heavy(plugin: type) -> list[str]:
    module = sys.modules.get(plugin.__module__)
    try:
        body = ast.parse(inspect.getsource(module)).body if module else []
    except (OSError, TypeError, SyntaxError):
        return []
    names: list[str] = []
    for node in body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
    return sorted({top for name in names if (top := name.partition(".")[0]) in HEAVY})


def _behaviour(kind: KindName, plugin: Any, settings: Mapping[str, Json]) -> Iterator[str]:
    required = [s.name for s in described(plugin.Config) if s.required and s.name not in settings]
    if required:
        return  # nothing to build it with; the static part is all that can be said
    try:
        config = read_settings(plugin.Config, settings)
        if read_settings(plugin.Config, json.loads(config.model_dump_json())) != config:
            yield "its settings change when they are written as JSON and read back, as a run's record does"
        plugin(config)
    except ValidationError as error:
        if not settings and {fault["type"] for fault in error.errors()} <= {"value_error", "assertion_error"}:
            return  # the plugin's own validator asks for settings; nothing to build it with
        yield f"its settings are refused: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}"
        return
    except Exception as error:
        yield f"it cannot be made from its settings: {type(error).__name__}: {error}"
        return
    look = _LOOKS.get(kind)
    if look is None:
        return
    try:
        yield from look(lambda: plugin(config), tuple(getattr(plugin, "needs", ())))
    except Exception as error:
        yield f"{type(error).__name__} while it was tried out: {error}"


Make = Callable[[], Any]


def _filter(make: Make, needs: Sequence[str]) -> Iterator[str]:
    if "teacher" in needs:
        return
    with tempfile.TemporaryDirectory() as folder:
        inputs: dict[str, Any] = {"trait": FakeTrait()} if "trait" in needs else {}
        ctx = context(Path(folder), **inputs)
        given = make().reject(_ROWS, ctx)
        if len(given) != len(_ROWS):
            yield f"reject gave {len(given)} reasons for {len(_ROWS)} rows; one per row, or None"
            return
        strange = [reason for reason in given if reason is not None and not (isinstance(reason, str) and reason)]
        if strange:
            yield f"reject gave {strange[0]!r}; a reason is a short text, and None keeps the row"
        batched = make()
        if [*batched.reject(_ROWS[:3], ctx), *batched.reject(_ROWS[3:], ctx)] != list(given):
            yield "reject depends on how rows are batched; it must give the same reasons for one batch and for two"


def _generator(make: Make, needs: Sequence[str]) -> Iterator[str]:  # noqa: ARG001
    four = list(make().prompts(4, 0))
    if len(four) != 4 or not all(isinstance(prompt, str) for prompt in four):
        yield "prompts(4, 0) did not give four texts"
    elif list(make().prompts(2, 0)) != four[:2] or list(make().prompts(4, 0)) != four:
        yield "prompts is no stream: prompts(2, seed) must be the beginning of prompts(4, seed), every time"


def _trait(make: Make, needs: Sequence[str]) -> Iterator[str]:  # noqa: ARG001
    trait = make()
    if not (isinstance(trait.label, str) and trait.label):
        yield "label is no text"
    talks = list(trait.conversations(0))
    if not all(isinstance(row, Row) for row in talks):
        yield "conversations holds something else than subl.Row"
    elif talks != list(make().conversations(0)):
        yield "conversations differs between two calls with one seed"
    if not isinstance(trait.statement("high"), str):
        yield "statement gives no text"
    if not all(isinstance(word, str) and word for word in trait.leaks()):
        yield "leaks holds something else than words"


_LOOKS: Mapping[str, Callable[[Make, Sequence[str]], Iterator[str]]] = {
    "filter": _filter,
    "generator": _generator,
    "trait": _trait,
}
