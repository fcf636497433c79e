"""Options that several commands share. Every list of them may default to ()."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    Texts: TypeAlias = Sequence[str]
    Paths: TypeAlias = Sequence[Path]
else:  # typer knows repeatable options by `list` only, whose default could not be a constant
    Texts, Paths = list[str], list[Path]

RecipeArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A .toml file, or the name of a shipped recipe.", show_default=False)
]
Overrides: TypeAlias = Annotated[
    Texts,
    typer.Option(
        "--set",
        "-s",
        metavar="KEY=VALUE",
        help="Set a value, e.g. trait.target=panda or filters.0.max_value=99. Repeatable; wins over the file.",
        show_default=False,
    ),
]
Arms: TypeAlias = Annotated[
    Texts,
    typer.Option(
        "--arm",
        metavar="NAME",
        help="Only this arm; the recipe itself is the arm 'main'. Repeatable.",
        show_default=False,
    ),
]
PluginFiles: TypeAlias = Annotated[
    Paths,
    typer.Option("--plugin", metavar="FILE", help="Load a local plugin file. Repeatable.", show_default=False),
]
StoreFolder: TypeAlias = Annotated[
    Path | None,
    typer.Option("--store", metavar="FOLDER", help="The project's folder for results; .subl here if not given."),
]


def _consent(allow: bool) -> bool:
    import sys

    from subl.registry.consent import Consent, consent

    consent.set(Consent(allow, typer.confirm if sys.stdin.isatty() else None))
    return allow


AllowLocal: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--allow-local-plugins",
        help="Run plugin files that the recipe names outside its own folder; remembered until they change.",
        callback=_consent,
    ),
]
Workers: TypeAlias = Annotated[
    int,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Compute so many stages side by side, each on a GPU of its own where there are GPUs.",
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
