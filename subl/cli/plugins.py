"""`subl plugins`: which plugins there are, what one of them takes, whether it keeps its contract, and a new one."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from subl.artifacts import Json
from subl.cli.options import AsJson, PluginFiles
from subl.cli.output import print_json, print_table
from subl.errors import USER_ERROR, PluginError, SublError, suggest
from subl.registry.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from subl.registry.describe import Setting
    from subl.registry.registry import Entry, Registry

plugins = typer.Typer(
    help="List plugins, show their settings, check them, write new ones.",
    epilog="Example: subl plugins show filter number_format",
    no_args_is_help=True,
)


@plugins.command("list", epilog="Example: subl plugins list probe")
def list_plugins(
    kind: Annotated[str | None, typer.Argument(help=f"One of {', '.join(KINDS)}.", show_default=False)] = None,
    files: PluginFiles = (),
    as_json: AsJson = False,
) -> None:
    """List plugins and where they come from.

    None is imported, so a broken one is listed like any other.
    """
    if kind is not None:
        _check_kind(kind)
    entries = _registry(files).entries(kind)
    names = [(entry.kind, entry.name) for entry in entries]
    if as_json:
        print_json(
            [
                {
                    "kind": e.kind,
                    "name": e.name,
                    "source": e.origin.source,
                    "where": e.origin.where,
                    "target": e.origin.target,
                }
                for e in entries
            ]
        )
        return
    clash = {key for key in names if names.count(key) > 1}
    rows = [
        (e.kind, e.name + ("  (claimed twice)" if (e.kind, e.name) in clash else ""), e.origin.source, e.origin.where)
        for e in entries
    ]
    print_table(("kind", "name", "source", "from"), rows)


@plugins.command("show", epilog="Example: subl plugins show trait preference")
def show_plugin(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(KINDS)}.", show_default=False)],
    name: Annotated[str, typer.Argument(help="The plugin's name.", show_default=False)],
    files: PluginFiles = (),
    as_json: AsJson = False,
) -> None:
    """Show what a plugin does and takes.

    Its settings with types and defaults, where its code is, and a table to paste into a recipe.
    """
    from subl.registry.describe import settings
    from subl.registry.registry import describe_source

    _check_kind(kind)
    registry = _registry(files)
    entry, plugin = registry.entry(kind, name), registry.load(kind, name)
    found = _faults(entry, registry)
    listed = list(settings(plugin.Config))
    doc, source = inspect.getdoc(plugin) or "", describe_source(plugin)
    if as_json:
        records: list[Json] = [
            {
                "name": s.name,
                "type": s.type,
                "default": s.default,
                "required": s.required,
                "runtime": s.runtime,
                "doc": s.doc,
            }
            for s in listed
        ]
        print_json(
            {
                "kind": kind,
                "name": name,
                "version": plugin.version,
                "source": source,
                "origin": entry.origin.where,
                "doc": doc,
                "settings": records,
                "faults": list(found),
                "example": _example(kind, name, listed),
            }
        )
        return
    typer.echo(f"{kind} {name}, version {plugin.version}, from {entry.origin.where}\n{source}")
    typer.echo(f"contract: {'not kept' if found else 'kept'}")
    _print_faults(found)
    typer.echo(f"\n{doc}\n")
    if listed:
        rows = [(s.name, s.type, _default(s), s.doc + (" (speed only)" if s.runtime else "")) for s in listed]
        print_table(("setting", "type", "default", "meaning"), rows)
    typer.echo(f"\n{_example(kind, name, listed)}")


@plugins.command("check", epilog="Example: subl plugins check filter length")
def check_plugins(
    kind: Annotated[str | None, typer.Argument(help=f"One of {', '.join(KINDS)}.", show_default=False)] = None,
    name: Annotated[str | None, typer.Argument(help="The plugin's name.", show_default=False)] = None,
    files: PluginFiles = (),
    as_json: AsJson = False,
) -> None:
    """Import plugins and check that they keep their contract.

    All of them, those of one kind, or one; a broken one does not keep the others from being checked. Any fault ends
    with exit code 2.
    """
    if kind is not None:
        _check_kind(kind)
    registry = _registry(files)
    entries = registry.entries(kind) if kind is None or name is None else [registry.entry(kind, name)]
    results = [(entry, _faults(entry, registry)) for entry in entries]
    if as_json:
        print_json(
            [
                {"kind": e.kind, "name": e.name, "source": e.origin.source, "where": e.origin.where, "faults": found}
                for e, found in results
            ]
        )
    else:
        for entry, found in results:
            typer.echo(f"{'fault' if found else 'ok'}: {entry.kind} {entry.name} from {entry.origin}")
            _print_faults(found)
    if any(found for _, found in results):
        raise typer.Exit(USER_ERROR)


@plugins.command("new", epilog="Example: subl plugins new filter short_rows")
def new_plugin(
    kind: Annotated[str, typer.Argument(help=f"One of {', '.join(KINDS)}.", show_default=False)],
    name: Annotated[str, typer.Argument(help="What recipes will call it, e.g. short_rows.", show_default=False)],
    package: Annotated[bool, typer.Option("--package", help="Write a package to install and publish.")] = False,
    folder: Annotated[Path, typer.Option(help="Where to write.", file_okay=False)] = Path(),
) -> None:
    """Write a working plugin with a test, to be changed.

    One file and its test, or with --package a package with entry point, README and tests.
    """
    from subl.registry.scaffold import scaffold

    _check_kind(kind)
    written = scaffold(kind, name, folder, package=package)
    for path in written:
        typer.echo(f"wrote {path}")
    if package:
        root = written[0].parent.parent
        typer.echo(f"next: cd {root} && pip install -e '.[dev]' && pytest && subl plugins check {kind} {name}")
    else:
        typer.echo(f"next: pytest {written[1]} && subl plugins show {kind} {name} --plugin {written[0]}")


def _faults(entry: Entry, registry: Registry) -> list[str]:
    """Return what is wrong with a plugin; one that cannot even be imported has that as its fault."""
    from subl.testing.checking import faults

    try:
        # By its name, so that two packages which claim it are a fault of both.
        plugin = registry.load(registry.entry(entry.kind, entry.name).kind, entry.name)
    except SublError as error:
        return str(error).splitlines()
    return faults(entry.kind, plugin)  # type: ignore[arg-type]


def _print_faults(found: Sequence[str]) -> None:
    for fault in found:
        typer.echo(f"  - {fault.removeprefix('  - ')}")


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise PluginError(f"unknown kind {kind!r}{suggest(kind, KINDS)}")


def _registry(files: Sequence[Path]) -> Registry:
    """Return the registry with these local files; imported here, because pydantic would double the time of --help."""
    from subl.registry.local import load_local
    from subl.registry.registry import registry

    registry.forget_local()
    for file in files:
        load_local(file)
    return registry


def _default(setting: Setting) -> str:
    if setting.required:
        return "required"
    return "unset" if setting.default is None else json.dumps(setting.default, ensure_ascii=False)


def _example(kind: str, name: str, listed: list[Setting]) -> str:
    """Return a table for a recipe: defaults commented out, so that they stay the plugin's own; blanks to fill in."""
    from subl.recipe.toml import write_toml
    from subl.registry.describe import SECTIONS

    lines = [SECTIONS[kind], write_toml({"plugin": name}).strip()]
    for setting in listed:
        if setting.required:
            lines.append(f"{setting.name} = {_blank(setting.type)}  # required: {setting.type}")
        elif setting.default is not None and not isinstance(setting.default, dict):
            lines.append("# " + write_toml({"value": setting.default}).strip().replace("value", setting.name, 1))
    return "\n".join(lines)


def _blank(kind: str) -> str:
    blanks = {
        "whole number": "1",
        "number": "1.0",
        "true or false": "true",
        "list": "[]",
        "table": "{}",
        '"': kind.split(",")[0],
    }
    return next((blank for start, blank in blanks.items() if kind.startswith(start)), '"…"')
