"""`subl schema`: what an editor needs to complete, explain and check recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from subl.cli.options import PluginFiles

EPILOG = "Example: subl schema --output .subl/recipe.schema.json"


def schema(
    files: PluginFiles = (),
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write here instead of printing.")
    ] = None,
) -> None:
    """Print a JSON schema of recipes for editors (taplo, tombi).

    It knows every installed plugin and its settings, and those of the files given by --plugin.
    """
    from subl.recipe.schema import recipe_schema
    from subl.registry.local import load_local
    from subl.registry.registry import registry

    registry.forget_local()
    for file in files:
        load_local(file)
    text = json.dumps(recipe_schema(), indent=1, ensure_ascii=False) + "\n"
    if output is None:
        typer.echo(text, nl=False)
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {output}; name it in a recipe's first line: #:schema {output}")
