"""`subl recipes`: the recipes that come with subl."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from subl.cli.options import AsJson
from subl.cli.output import print_json, print_table
from subl.errors import RecipeError

recipes = typer.Typer(
    help="List, show and copy the recipes that come with subl.",
    epilog="Example: subl recipes copy micro_owl my_first.toml",
    no_args_is_help=True,
)

_LABELS = ("title", "needs", "time")

Name = Annotated[str, typer.Argument(help="Name of a shipped recipe.", show_default=False)]


@recipes.command("list", epilog="Example: subl recipes list --json")
def list_recipes(as_json: AsJson = False) -> None:
    """List the shipped recipes."""
    from subl.recipe import shipped

    paths = [shipped.locate(name) for name in shipped.names()]
    records = [{"name": path.stem, **_labels(path), "about": _header(path), "path": str(path)} for path in paths]
    if as_json:
        print_json(records)
    else:
        columns = ("name", *_LABELS)
        print_table(columns, [tuple(record[column] for column in columns) for record in records])


@recipes.command("show", epilog="Example: subl recipes show micro_owl")
def show_recipe(name: Name) -> None:
    """Print a shipped recipe as it stands in its file."""
    from subl.recipe import shipped

    typer.echo(shipped.locate(name).read_text(encoding="utf-8"), nl=False)


@recipes.command("copy", epilog="Example: subl recipes copy micro_owl my_first.toml")
def copy_recipe(
    name: Name,
    destination: Annotated[
        Path | None, typer.Argument(metavar="DEST", help="File or folder; NAME.toml here if not given.")
    ] = None,
) -> None:
    """Copy a shipped recipe to edit it.

    Comments stay, what it extends is found from anywhere, and no file is overwritten.
    """
    from subl.recipe import shipped

    source = shipped.locate(name)
    target = destination or Path()
    if target.is_dir():
        target /= source.name
    if target.suffix != shipped.SUFFIX:
        raise RecipeError(f"{target} does not end in {shipped.SUFFIX}, by which recipes are known")
    text = _portable(source)
    try:
        with target.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError:
        raise RecipeError(f"{target} exists already; choose another name: subl recipes copy {name} DEST") from None
    except OSError as error:
        raise RecipeError(f"{target} cannot be written: {error.strerror}") from error
    typer.echo(f"wrote {target}; try: subl validate {target}")


def _labels(path: Path) -> dict[str, str]:
    """Return what a recipe says of itself, inherited texts included."""
    from subl.recipe.chain import Chain, stack
    from subl.recipe.layers import Node, Origin
    from subl.recipe.report import Problems

    problems = Problems(path.name)
    chain = Chain(problems)
    chain.follow(path)
    table = stack(chain.layers, Node({}, Origin(path.name)), problems).table
    return {label: str(table[label].value) if label in table else "" for label in _LABELS}


def _header(path: Path) -> str:
    """Return the first paragraph of the comment at the top of a recipe."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#:"):  # an editor's directive
            continue
        if not line.startswith("#") or not line.strip("# "):
            break
        lines.append(line.strip("# "))
    return " ".join(lines)


def _portable(path: Path) -> str:
    """Return a recipe's text with what it extends as shipped names, and local plugin files as whole paths."""
    from subl.recipe import shipped
    from subl.recipe.toml import read_toml

    document = read_toml(path)
    text = document.text
    spans = sorted(((p.start, p.end, key) for key, p in document.places.items()), reverse=True)
    for start, end, key in spans:
        value = document.data.get(str(key[0])) if key else None
        item = value[key[1]] if isinstance(value, list) and len(key) == 2 and isinstance(key[1], int) else value
        if key[0] not in ("extends", "plugins") or not isinstance(item, str):
            continue
        there = Path(os.path.normpath(path.parent / item))
        if key[0] == "plugins":
            item = str(there)
        elif item.endswith(shipped.SUFFIX):
            item = shipped.name_of(there)
        text = text[:start] + json.dumps(item, ensure_ascii=False) + text[end:]
    return text
