"""A run folder as it lies on disk: findings, resolved recipes and the hashed keys of its stages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subl.errors import StoreError

FINDINGS, RECIPE, PLAN, ENVIRONMENT = "findings.json", "recipe.json", "plan.json", "environment.json"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a run folder says.

    Args:
        folder: The folder.
        findings: Content of findings.json.
        recipes: Variant's label → resolved recipe; empty where recipe.json is lost.
        stages: Fingerprint → name and hashed key of a stage; empty where plan.json is lost.
    """

    folder: Path
    findings: Mapping[str, Any]
    recipes: Mapping[str, Mapping[str, Any]]
    stages: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        """The run's id."""
        return str(self.findings.get("run") or self.folder.name)


def read_recorded(folder: Path) -> Recorded:
    """Read a run folder; recipe.json and plan.json may be lost, findings.json may not.

    Raises:
        StoreError: There are no findings, or they cannot be read.
    """
    findings = read_table(folder / FINDINGS)
    recipes = read_table(folder / RECIPE) if (folder / RECIPE).is_file() else {}
    variants = recipes.get("variants") or ()
    return Recorded(
        folder=folder,
        findings=findings,
        recipes={variant["label"]: variant["recipe"] for variant in variants},
        stages=read_table(folder / PLAN) if (folder / PLAN).is_file() else {},
    )


def read_table(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a table.

    Raises:
        StoreError: It is missing or malformed.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); run the recipe again to make it anew") from error
    if not isinstance(content, dict):
        raise StoreError(f"{path}: not a table; run the recipe again to make it anew")
    return content
