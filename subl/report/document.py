"""A run's report: sections made from its folder alone, written as Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from subl.errors import StoreError
from subl.report.blocks import Section
from subl.report.markdown import render
from subl.report.sections import (
    answers_section,
    measures_section,
    models_section,
    reproduction_section,
    result_section,
    rows_section,
    stages_section,
)
from subl.report.summary import summarise

FINDINGS = "findings.json"
ENVIRONMENT = "environment.json"
MAIN_FIGURE = "figures/main.png"
REPORT = "report.md"


def write_report(folder: Path) -> Path:
    """Write `report.md` and its main figure into a run folder, from what lies there; return the report's path.

    Raises:
        StoreError: The folder's findings.json is missing or malformed.
    """
    sections = build_report(folder)
    path = folder / REPORT
    path.write_text(render(sections), encoding="utf-8")
    return path


def build_report(folder: Path) -> list[Section]:
    """Return the report's sections; draws the main figure.

    Raises:
        StoreError: The folder's findings.json is missing or malformed.
    """
    from subl.report.figure import draw_shift

    findings = _read(folder / FINDINGS)
    try:
        summary = summarise(findings)
        drawn = draw_shift(summary, folder / MAIN_FIGURE)
        sections = [
            result_section(summary, MAIN_FIGURE if drawn else None),
            models_section(summary),
            rows_section(summary),
            measures_section(summary),
            answers_section(summary),
            stages_section(summary),
            reproduction_section(summary, _read(folder / ENVIRONMENT) if (folder / ENVIRONMENT).exists() else {}),
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{folder / FINDINGS}: not in the form that this version of subl writes ({type(error).__name__}: {error}); "
            "run the recipe again to make it anew, finished stages are cached"
        ) from error
    return [section for section in sections if section.blocks]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); run the recipe again to make it anew") from error
    if not isinstance(content, dict):
        raise StoreError(f"{path}: not a table of findings; run the recipe again to make it anew")
    return content
