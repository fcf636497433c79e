"""`subl validate`: everything that can be known to fail without running."""

from __future__ import annotations

from typing import Annotated

import typer

from subl.artifacts import Json
from subl.cli.options import AllowLocal, Arms, AsJson, Overrides, PluginFiles
from subl.cli.output import print_json
from subl.errors import USER_ERROR, SublError


def validate(
    recipes: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE…", help="Files that end in .toml, or shipped names.", show_default=False),
    ],
    overrides: Overrides = (),
    arms: Arms = (),
    plugins: PluginFiles = (),
    allow_local_plugins: AllowLocal = False,  # noqa: ARG001 (its callback acts)
    as_json: AsJson = False,
) -> None:
    """Check recipes without running anything.

    Keys, types, plugins, their settings and how they fit together are checked for every arm and sweep point. All
    problems are printed at once, and any problem ends with exit code 2.
    """
    from subl.recipe.loading import load_experiment
    from subl.recipe.report import RecipeProblemsError

    records: list[dict[str, Json]] = []
    for source in recipes:
        record: dict[str, Json] = {"recipe": source, "ok": False, "variants": [], "warnings": [], "problems": []}
        records.append(record)
        try:
            experiment = load_experiment(source, overrides=overrides, arms=arms, plugin_files=plugins)
        except SublError as error:
            found = error.problems if isinstance(error, RecipeProblemsError) else ()
            message: dict[str, Json] = {"where": source, "line": None, "key": "", "message": str(error)}
            record["problems"] = [problem.record() for problem in found] or [message]
            if not as_json:
                typer.echo(f"error: {error}", err=True)
            continue
        variants: list[Json] = [{"arm": v.arm, "point": dict(v.point)} for v in experiment.variants]
        record |= {"ok": True, "variants": variants, "warnings": list(experiment.warnings)}
        if not as_json:
            _print_good(source, [v.arm for v in experiment.variants], experiment.warnings)
    if as_json:
        print_json(records)
    if not all(record["ok"] for record in records):
        raise typer.Exit(USER_ERROR)


def _print_good(source: str, variants: list[str], warnings: tuple[str, ...]) -> None:
    arms = list(dict.fromkeys(variants))
    count = "1 variant" if len(variants) == 1 else f"{len(variants)} variants"
    typer.echo(f"ok: {source}: {count}, {'arm' if len(arms) == 1 else 'arms'} {', '.join(arms)}")
    for warning in warnings:
        typer.echo(f"warning: {source}: {warning}", err=True)
