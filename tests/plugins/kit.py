"""Packages that count as installed while a test runs, without pip."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tomli

from subl.registry.registry import registry

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "plugins/subl-digits"


def describe(site: Path, package: str, points: str) -> None:
    """Write what pip leaves of a package's metadata."""
    info = site / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)


def describe_project(site: Path, project: Path) -> None:
    """Write the metadata of a package with a pyproject.toml."""
    facts = tomli.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    points = ""
    for group, table in facts["entry-points"].items():
        points += "\n".join((f"[{group}]", *(f"{name} = {target}" for name, target in table.items()), ""))
    describe(site, facts["name"], points)


@contextmanager
def installed(*folders: Path) -> Iterator[None]:
    """Put folders on the import path, and let the registry look again; afterwards nothing of it is left."""
    modules, path = set(sys.modules), list(sys.path)
    sys.path[:0] = map(str, folders)
    registry.refresh()
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if any(file.startswith(str(folder)) for folder in folders):
                del sys.modules[name]
        registry.forget_local()
        registry.refresh()
