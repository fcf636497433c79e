"""`subl show`: a recipe after all layers, with where each value comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated

import typer

from subl.artifacts import Json
from subl.cli.options import AllowLocal, AsJson, Overrides, PluginFiles, RecipeArgument
from subl.cli.output import print_json
from subl.errors import RecipeError


def show(
    recipe: RecipeArgument,
    overrides: Overrides = (),
    arm: Annotated[str, typer.Option("--arm", metavar="NAME", help="Arm to show.")] = "main",
    point: Annotated[int, typer.Option("--point", metavar="N", help="Sweep point to show, from 0.", min=0)] = 0,
    plugins: PluginFiles = (),
    allow_local_plugins: AllowLocal = False,  # noqa: ARG001 (its callback acts)
    origins: Annotated[bool, typer.Option("--origins", help="Say where each value was set.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print a recipe as it runs, after all layers.

    Everything that it extends, the arm, the sweep point, flags and defaults, in one TOML, which is a recipe itself:
    saved to a file, it freezes all defaults.
    """
    from subl.recipe.loading import load_experiment

    experiment = load_experiment(recipe, overrides=overrides, arms=[arm], plugin_files=plugins)
    if point >= len(experiment.variants):
        last = len(experiment.variants) - 1
        raise RecipeError(f"arm {arm!r} has no sweep point {point}; its points are 0 to {last}")
    variant = experiment.variants[point]
    data = json.loads(variant.recipe.to_json())
    if as_json:
        places = {"origins": dict(variant.origins)} if origins else {}
        print_json({"name": experiment.name, "arm": arm, "point": dict(variant.point), "recipe": data, **places})
        return
    swept = "".join(f", {path} = {json.dumps(value)}" for path, value in variant.point.items())
    typer.echo(f"# {experiment.name}: arm {arm}, point {point} of {len(experiment.variants)}{swept}")
    files = [str(path) for path in experiment.plugin_files]
    typer.echo(_toml(data, files, variant.origins if origins else None), nl=False)


def _toml(data: dict[str, Json], plugin_files: list[str], origins: Mapping[str, str] | None) -> str:
    from subl.recipe.layers import DEFAULT
    from subl.recipe.toml import dotted, write_toml

    whole: dict[str, Json] = {**({"plugins": [*plugin_files]} if plugin_files else {}), **data}
    if origins is None:
        return write_toml(whole)
    return write_toml(whole, lambda path: "" if path == ("plugins",) else origins.get(dotted(path), str(DEFAULT)))
