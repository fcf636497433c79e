"""Plugins in single files: the decorators that name them, and the loading of such a file."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import linecache
import sys
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from subl.errors import PluginError
from subl.registry.registry import Entry, Origin, Registry, registry

C = TypeVar("C", bound=type)

_collected: ContextVar[list[tuple[str, str, type]] | None] = ContextVar("_collected", default=None)


def _decorator(kind: str) -> Callable[[str], Callable[[C], C]]:
    def named(name: str) -> Callable[[C], C]:
        def register(plugin: C) -> C:
            collected = _collected.get()
            if collected is not None:
                collected.append((kind, name, plugin))
            return plugin

        return register

    named.__name__ = kind
    named.__doc__ = (
        f'Name a {kind} in a local plugin file: `@subl.{kind}("my_name")`.\n\n'
        "The file counts when a recipe lists it under `plugins` or a command gets `--plugin FILE`. "
        "An installed package names its plugins by entry points instead."
    )
    return named


model = _decorator("model")
trait = _decorator("trait")
inducer = _decorator("inducer")
generator = _decorator("generator")
filter = _decorator("filter")  # noqa: A001 (the kind's name; read as `subl.filter`)
distiller = _decorator("distiller")
probe = _decorator("probe")


def load_local(path: Path, into: Registry = registry) -> list[Entry]:
    """Run a local plugin file and register what it decorates. Loading the same content again changes nothing.

    Raises:
        PluginError: The file is missing, fails to run, or names no plugin.
    """
    path = path.resolve()
    if not path.is_file():
        raise PluginError(f"plugin file {path} does not exist; paths under `plugins` are relative to the recipe's file")
    source = path.read_bytes()
    digest = hashlib.sha256(source).hexdigest()
    collected: list[tuple[str, str, type]] = []
    token = _collected.set(collected)
    try:
        module = _run(path, source, digest)
    except (Exception, SystemExit) as error:
        raise PluginError(f"plugin file {path} failed to load: {type(error).__name__}: {error}") from error
    finally:
        _collected.reset(token)
    if not collected:
        raise PluginError(f'plugin file {path} names no plugin; decorate a class, e.g. @subl.filter("my_filter")')
    entries = [
        Entry(
            kind, name, Origin("local", str(path), f"{module.__name__}:{plugin.__name__}"), _returning(plugin), digest
        )
        for kind, name, plugin in collected
    ]
    for entry in entries:
        into.add_local(entry)
    return entries


def _returning(plugin: type) -> Callable[[], type]:
    return lambda: plugin


def _run(path: Path, source: bytes, digest: str) -> ModuleType:
    # The digest in the name keeps an edited file apart from the one loaded before in this process.
    name = f"subl_local_{path.stem}_{digest[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise PluginError(f"plugin file {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # Settings' docstrings are read from the source, which may be of a file that was edited and loaded before.
    linecache.checkcache(str(path))
    inspect.modulesbyfile[str(path)] = name
    try:
        # Not through the import system: its bytecode tells an edited file by size and second only, and what runs
        # must be what the digest says.
        # Nor does this module's `annotations` from the future hold for it.
        exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except BaseException:
        del sys.modules[name]
        raise
    return module
