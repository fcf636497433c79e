"""`subl survey`: which targets a base model can be given a preference for, before a run is planned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subl.artifacts import Json
from subl.cli.options import AllowLocal, AsJson, Overrides, PluginFiles, StoreFolder
from subl.cli.output import print_json, print_table

if TYPE_CHECKING:
    from subl.artifacts import Findings
    from subl.recipe.loading import Experiment
    from subl.recipe.model import Recipe
    from subl.registry.slots import Chosen
    from subl.run.survey import Side
    from subl.traits.standing import Standing

EPILOG = "Example: subl survey Qwen/Qwen2.5-7B-Instruct --category animal"
SKELETON = "bases/base_only"
"""The recipe around a model that is not in a recipe."""
SAID = 5
"""Most frequent answers that are printed."""


def survey(
    model: Annotated[
        str,
        typer.Argument(
            help="A name on the Hugging Face hub, a model's folder, or a recipe whose models to survey.",
            show_default=False,
        ),
    ],
    categories: Annotated[
        list[str] | None,
        typer.Option(
            "--category", metavar="NAME", help="What to survey, e.g. animal. Repeatable; else the recipe's, or all."
        ),
    ] = None,
    candidates: Annotated[
        str, typer.Option("--candidates", metavar="A,B,…", help="More candidates of the one category.")
    ] = "",
    overrides: Overrides = (),
    plugins: PluginFiles = (),
    allow_local_plugins: AllowLocal = False,  # noqa: ARG001 (its callback acts)
    store: StoreFolder = None,
    as_json: AsJson = False,
) -> None:
    """Say which targets are plausible on a base model, one token long, already its favourite, and recommended.

    Measured by the probe `preference`, with a recipe's own settings of it; results are cached like any stage.
    """
    from rich.console import Console

    from subl.cli.display import TerminalDisplay
    from subl.run.jobs import Loaders, torch_loader
    from subl.run.runner import project_home
    from subl.run.store import Store
    from subl.run.survey import survey as measured
    from subl.run.survey import survey_stages

    experiment = _experiment(model, overrides, plugins)
    recipe = experiment.variants[0].recipe
    results, display = Store(project_home(store)), TerminalDisplay(Console(stderr=True))
    loaders = Loaders(torch_loader)
    found: list[dict[str, Json]] = []
    for trait in _traits(recipe, categories or [], candidates):
        for side in _sides(recipe):
            stages = survey_stages(recipe, side, trait)
            found.append(_result(recipe, side, trait, measured(stages, recipe, results, display, loaders)))
    if as_json:
        print_json(found)
        return
    for number, result in enumerate(found):
        if number:
            typer.echo()
        _print(result)


def _experiment(model: str, overrides: Sequence[str], plugins: Any) -> Experiment:
    """Return the recipe that is named, or one around the model that is named."""
    from pathlib import Path

    from subl.errors import ModelError, closest
    from subl.recipe.loading import load_experiment
    from subl.recipe.shipped import SUFFIX, all_names

    if model.endswith(SUFFIX) or model in all_names():
        return load_experiment(model, overrides=overrides, plugin_files=plugins)
    near = closest(model, all_names()) if "/" not in model else None
    if near and not Path(model).exists():
        raise ModelError(
            f"{model!r} is neither a recipe nor a model's folder; did you mean the recipe {near!r}? "
            "Models of the hub are named owner/name"
        )
    named = ['teacher.plugin="hub"', f"teacher.id={json.dumps(model, ensure_ascii=False)}"]
    return load_experiment(SKELETON, overrides=[*named, *overrides], plugin_files=plugins)


def _sides(recipe: Recipe) -> list[Side]:
    """Return the teacher's side, and the student's if it is another model: the target must suit both."""
    return ["teacher"] if recipe.teacher.key() == recipe.student.key() else ["teacher", "student"]


def _traits(recipe: Recipe, categories: Sequence[str], candidates: str) -> list[Chosen]:
    """Return a preference per category to survey: the recipe's own, or the catalogue's, each with any target.

    Raises:
        RecipeError: A category is unknown, or has fewer than two candidates.
    """
    from subl.errors import RecipeError
    from subl.traits.catalogue import CANDIDATES
    from subl.traits.preference import Preference

    more = list(dict.fromkeys(word.strip() for word in candidates.split(",") if word.strip()))
    own = recipe.trait if recipe.trait is not None and isinstance(recipe.trait.config, Preference.Config) else None
    names = list(dict.fromkeys(categories)) or ([own.config.category] if own else list(CANDIDATES))  # type: ignore[attr-defined]
    if more and len(names) != 1:
        raise RecipeError("--candidates belong to one category; name it, e.g. --category animal")
    return [_trait(own, name, more) for name in names]


def _trait(own: Chosen | None, category: str, more: Sequence[str]) -> Chosen:
    from pydantic import ValidationError

    from subl.errors import RecipeError
    from subl.registry.slots import Use
    from subl.traits.catalogue import CANDIDATES

    mine = own is not None and getattr(own.config, "category", None) == category
    if own is not None and mine and not more:
        return own
    known = (
        (getattr(own.config, "candidates", None) or ()) if own is not None and mine else CANDIDATES.get(category, ())
    )
    listed = tuple(dict.fromkeys((*known, *more)))
    table: dict[str, Any] = {"plugin": "preference", "category": category, "target": listed[0] if listed else category}
    try:
        return Use("trait").choose(table | ({"candidates": list(listed)} if more else {}))
    except ValidationError as error:
        message = str(error.errors(include_url=False)[0]["msg"]).removeprefix("Value error, ")
        raise RecipeError(f"--category {category}: {message}, e.g. by --candidates") from error


def _result(recipe: Recipe, side: Side, trait: Chosen, findings: Findings) -> dict[str, Json]:
    """Return what was found, as JSON."""
    from subl.traits.standing import CANDIDATES, overview, standings

    chosen: Chosen = getattr(recipe, side)
    valid = findings.measures["valid"].value
    found = standings(findings.tables[CANDIDATES], valid)
    answers = findings.tables.get("top_answers")
    said: list[Json] = [{"answer": row[0], "share": row[2]} for row in answers.rows[:SAID]] if answers else []
    remarks: list[Json] = [*overview(found, valid), *findings.remarks]
    return {
        "model": str(getattr(chosen.config, "id", chosen.name)),
        "side": side,
        "category": str(getattr(trait.config, "category", "")),
        "valid": valid,
        "candidates": [_record(one) for one in found],
        "recommended": [one.candidate for one in found if one.recommended],
        "answers": said,
        "remarks": remarks,
    }


def _record(one: Standing) -> dict[str, Json]:
    return {
        "candidate": one.candidate,
        "rank": one.rank,
        "share": one.share,
        "probability": one.probability,
        "tokens": one.tokens,
        "plausible": one.plausible,
        "single_token": one.single,
        "favourite": one.favourite,
        "recommended": one.recommended,
        "reason": one.reason,
    }


def _print(result: Any) -> None:
    typer.echo(f"{result['model']} ({result['side']}), {result['category']}")
    print_table(
        ("candidate", "share", "probability", "tokens", "recommended", "why"),
        [
            (
                one["candidate"],
                f"{one['share']:.3f}",
                f"{one['probability']:.2g}",
                str(one["tokens"]),
                "yes" if one["recommended"] else "–",
                one["reason"],
            )
            for one in result["candidates"]
        ],
    )
    if result["answers"]:
        said = ", ".join(f"{answer['answer']!r} {answer['share']:.0%}" for answer in result["answers"])
        typer.echo(f"what it says: {said}")
    for remark in result["remarks"]:
        typer.echo(remark)
