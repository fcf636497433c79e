"""The recipes that come with subl: in the wheel as package data, in a checkout beside the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from subl.errors import RecipeError, suggest

SUFFIX = ".toml"


def root() -> Path:
    """Return the folder of the shipped recipes."""
    package = Path(str(files("subl")))
    packed = package / "_recipes"
    return packed if packed.is_dir() else package.parent / "recipes"


def plugins() -> Path:
    """Return the folder of the local plugin files that shipped recipes use: the same path from them in both cases."""
    return root().parent / "plugins" / "local"


def names() -> list[str]:
    """Return the names of the recipes to run. Files in sub-folders are there to be extended."""
    return sorted(path.stem for path in root().glob(f"*{SUFFIX}"))


def all_names() -> list[str]:
    """Return every shipped name, of files to run and of files to extend ("bases/micro")."""
    return sorted(name_of(path) for path in root().rglob(f"*{SUFFIX}"))


def name_of(path: Path) -> str:
    """Return the name of a file below the shipped folder."""
    return path.relative_to(root()).with_suffix("").as_posix()


def locate(name: str) -> Path:
    """Return the file of a shipped name.

    Raises:
        RecipeError: There is none; suggests one.
    """
    if name not in all_names():
        raise RecipeError(
            f"no shipped recipe is named {name!r}{suggest(name, all_names())}; your own file's name ends in {SUFFIX}"
        )
    return root() / f"{name}{SUFFIX}"
