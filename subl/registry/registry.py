"""Looking plugins up by kind and name, without importing more than the one that was chosen."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from subl.errors import MissingExtraError, PluginError, suggest
from subl.registry.builtins import BUILTINS
from subl.registry.config import PluginConfig
from subl.registry.kinds import KINDS, NEEDS

C = TypeVar("C", bound=type)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a plugin comes from.

    Args:
        source: "built-in", "installed" or "local".
        where: Package name and version, or the file.
        target: "module:Class" of what is not imported yet.
    """

    source: str
    where: str
    target: str

    def __str__(self) -> str:
        return f"{self.where} ({self.target})" if self.source == "installed" else self.where


@dataclass(frozen=True, slots=True)
class Entry:
    """One registered name: how to get the class, and where it comes from."""

    kind: str
    name: str
    origin: Origin
    load: Callable[[], Any]
    digest: str | None = None
    """Content hash of a local plugin's file; it enters fingerprints, because nobody bumps `version` while editing."""


class Registry:
    """All plugins of all kinds. Names are unique within a kind; a clash is an error that names both origins."""

    def __init__(self, *, installed: bool = True) -> None:
        self._installed = installed
        self._local: dict[tuple[str, str], Entry] = {}
        self._checked: dict[tuple[str, str], type] = {}

    @cached_property
    def _found(self) -> dict[tuple[str, str], list[Entry]]:
        found: dict[tuple[str, str], list[Entry]] = {}
        for entry in (*_builtin_entries(), *(_installed_entries() if self._installed else ())):
            found.setdefault((entry.kind, entry.name), []).append(entry)
        return found

    def add_local(self, entry: Entry) -> None:
        """Register a plugin from a local file.

        Raises:
            PluginError: The name is taken within the kind.
        """
        key = (entry.kind, entry.name)
        taken = [*self._found.get(key, ()), *([self._local[key]] if key in self._local else [])]
        for other in taken:
            if other.origin != entry.origin or other.digest != entry.digest:
                raise _clash(entry, other)
        self._local[key] = entry
        self._checked.pop(key, None)

    def forget_local(self) -> None:
        """Drop the plugins of local files, so that another recipe's files may use the same names."""
        for key in self._local:
            self._checked.pop(key, None)
        self._local.clear()

    def refresh(self) -> None:
        """Look for installed packages again, and forget which classes were loaded."""
        self.__dict__.pop("_found", None)
        self._checked.clear()

    def entries(self, kind: str | None = None) -> list[Entry]:
        """Return every entry, of one kind or of all, sorted; imports nothing. A name claimed twice comes twice."""
        every = [*(entry for entries in self._found.values() for entry in entries), *self._local.values()]
        return sorted((e for e in every if kind in (None, e.kind)), key=lambda e: (list(KINDS).index(e.kind), e.name))

    def names(self, kind: str) -> list[str]:
        """Return the names of one kind."""
        return list(dict.fromkeys(entry.name for entry in self.entries(kind)))

    def entry(self, kind: str, name: str) -> Entry:
        """Return one entry without importing it.

        Raises:
            PluginError: Unknown name (with a suggestion), or two packages claim it.
        """
        key = (kind, name)
        if key in self._local:
            return self._local[key]
        found = self._found.get(key, [])
        if len(found) > 1:
            raise _clash(found[1], found[0])
        if not found:
            raise PluginError(self._unknown(kind, name))
        return found[0]

    def load(self, kind: str, name: str) -> type[Any]:
        """Import one plugin class and check its contract.

        Raises:
            PluginError: Unknown, not importable, or not what its kind asks for.
        """
        key = (kind, name)
        if key not in self._checked:
            entry = self.entry(kind, name)
            try:
                plugin = entry.load()
            except MissingExtraError as error:
                error.args = (f"{kind} {name!r} from {entry.origin} cannot be used: {error}",)
                raise
            except Exception as error:
                raise PluginError(
                    f"{kind} {name!r} from {entry.origin} failed to import: {type(error).__name__}: {error}; "
                    f"mend or uninstall it, or choose another {kind}"
                ) from error
            check_contract(kind, name, plugin, entry.origin)
            self._checked[key] = plugin
        return self._checked[key]

    def _unknown(self, kind: str, name: str) -> str:
        elsewhere = [other for other in KINDS if other != kind and name in self.names(other)]
        if elsewhere:
            return f"{name!r} is {article(elsewhere[0])}, not {article(kind)}; {kind}s: {', '.join(self.names(kind))}"
        return f"unknown {kind} {name!r}{suggest(name, self.names(kind))}"


def check_contract(kind: str, name: str, plugin: Any, origin: Origin) -> None:
    """Check that a class keeps its kind's contract.

    Raises:
        PluginError: Names kind, plugin, origin, and everything that is missing.
    """
    faults: list[str] = []
    if not inspect.isclass(plugin):
        faults.append("it is not a class")
    else:
        config = getattr(plugin, "Config", None)
        if not (inspect.isclass(config) and issubclass(config, PluginConfig)):
            faults.append("it has no nested `class Config(subl.PluginConfig)`")
        else:
            reserved = {"plugin", "wraps", *(("on", "name") if kind == "probe" else ())}
            taken = sorted(reserved & set(config.model_fields))
            faults.extend(f"`Config` has a field named {field!r}, which recipes use themselves" for field in taken)
        faults.extend(_constructor_faults(plugin))
        if not (plugin.__doc__ or "").strip():
            faults.append("its class has no docstring (users read it)")
        if not isinstance(getattr(plugin, "version", None), int):
            faults.append("it has no `version: int`")
        unknown = set(getattr(plugin, "needs", ())) - NEEDS.get(kind, frozenset())
        faults.extend(f"`needs` names {item!r}, which {article(kind)} cannot have" for item in sorted(unknown))
        for method, parameters in KINDS[kind].methods.items():
            faults.extend(_method_faults(plugin, method, parameters))
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        raise PluginError(f"{kind} {name!r} from {origin} does not keep the contract of {article(kind)}:\n{listed}")


def article(kind: str) -> str:
    """Return a kind with its article: "an inducer"."""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _constructor_faults(plugin: type) -> Iterator[str]:
    try:
        inspect.signature(plugin).bind(None)
    except TypeError:
        yield "it cannot be made from its settings alone: __init__ should take (self, config)"


def _method_faults(plugin: type, method: str, parameters: tuple[str, ...]) -> Iterator[str]:
    function = getattr(plugin, method, None)
    if not callable(function):
        yield f"it has no method {method}({', '.join(('self', *parameters))})"
        return
    accepted = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    if any(p.kind is p.VAR_KEYWORD for p in accepted):
        return
    missing = [name for name in parameters if name not in {p.name for p in accepted}]
    extra = [
        p.name for p in accepted if p.name not in parameters and p.default is p.empty and p.kind is not p.VAR_POSITIONAL
    ]
    if missing or extra:
        yield f"{method} should take ({', '.join(('self', *parameters))}), not {inspect.signature(function)}"


def _clash(one: Entry, other: Entry) -> PluginError:
    return PluginError(
        f"two {one.kind}s are named {one.name!r}: {other.origin} and {one.origin}; rename one of them "
        "(a prefix such as 'mylab_' keeps names apart) or uninstall its package"
    )


def _builtin_entries() -> Iterator[Entry]:
    for kind, table in BUILTINS.items():
        for name, target in table.items():
            yield Entry(kind, name, Origin("built-in", "subl", target), _importer(target))


def _installed_entries() -> Iterator[Entry]:
    everything = entry_points()  # reads the metadata of every installed package
    for kind in KINDS.values():
        for point in everything.select(group=kind.group):
            package = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown package"
            yield Entry(kind.name, point.name, Origin("installed", package, point.value), _entry_point_loader(point))


def _importer(target: str) -> Callable[[], Any]:
    module, _, attribute = target.partition(":")
    return lambda: getattr(importlib.import_module(module), attribute)


def _entry_point_loader(point: EntryPoint) -> Callable[[], Any]:
    return point.load


registry = Registry(installed=os.environ.get("SUBL_PLUGINS", "").casefold() != "off")
"""The process-wide registry. `SUBL_PLUGINS=off` leaves installed packages out."""


def describe_source(plugin: type) -> str:
    """Return "file:line" of a plugin class."""
    try:
        lines, start = inspect.getsourcelines(plugin)
        return f"{Path(inspect.getsourcefile(plugin) or '?')}:{start}" if lines else "?"
    except (OSError, TypeError):
        return "?"
