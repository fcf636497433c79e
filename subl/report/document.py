"""A run's report: sections made from its folder alone, written as Markdown and as one HTML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from subl.recipe.analysis import DIGEST, analysis_digest
from subl.report import html, markdown
from subl.report.audit_section import audit_section
from subl.report.blocks import Image, Section
from subl.report.evidence_sections import doses_section, evidence_section, traits_section
from subl.report.recorded import ENVIRONMENT, FINDINGS, read_table
from subl.report.runs import readable
from subl.report.sections import (
    answers_section,
    findings_section,
    measures_section,
    models_section,
    reproduction_section,
    result_section,
    rows_section,
    stages_section,
)
from subl.report.summary import Summary, summarise

ANALYSIS = "analysis.json"
MAIN_FIGURE = "figures/main.png"
CURVES_FIGURE = "figures/curves.png"
PIPELINE_FIGURE = "figures/pipeline.svg"
REPORT = "report.md"
PAGE = "report.html"


def write_report(folder: Path) -> Path:
    """Write `report.md`, `report.html` and their figures into a run folder, from what lies there.

    Returns:
        The path of report.html.

    Raises:
        StoreError: The folder's findings.json is missing or malformed.
    """
    sections = build_report(folder)
    (folder / REPORT).write_text(markdown.render(sections), encoding="utf-8", errors="replace")
    page = folder / PAGE
    page.write_text(html.render(sections, folder), encoding="utf-8", errors="replace")
    return page


def build_report(folder: Path) -> list[Section]:
    """Return the report's sections; draws their figures.

    Raises:
        StoreError: The folder's findings.json is missing or malformed.
    """
    from subl.report.figure import draw_shift

    findings = read_table(folder / FINDINGS)
    with readable(findings):
        analysis = _optional(folder / ANALYSIS)
        summary = summarise(findings)
        summary = replace(summary, warnings=(*summary.warnings, *_tampered(analysis, findings)))
        drawn = draw_shift(summary, folder / MAIN_FIGURE)
        sections = [
            result_section(summary, MAIN_FIGURE if drawn else None),
            evidence_section(summary),
            traits_section(summary, folder),
            doses_section(summary, folder),
            _pipeline(summary, folder),
            models_section(summary),
            rows_section(summary),
            audit_section(summary),
            answers_section(summary),
            _curves(summary, folder),
            reproduction_section(summary, _optional(folder / ENVIRONMENT), analysis),
            measures_section(summary),
            findings_section(summary),
            stages_section(summary),
        ]
    return [section for section in sections if section.blocks]


def _pipeline(summary: Summary, folder: Path) -> Section:
    from subl.report.pipeline import draw_pipeline

    caption = (
        "stages of every arm; solid: computed in this run, dashed: from the store, dotted: shared with an arm above. "
        "Times are sums over the arm's runs"
    )
    drawn = draw_pipeline(summary, folder / PIPELINE_FIGURE)
    return Section("Pipeline", [Image(PIPELINE_FIGURE, caption)] if drawn else [])


def _curves(summary: Summary, folder: Path) -> Section:
    from subl.report.curves import draw_curves, read_curves

    drawn = draw_curves(read_curves(folder), summary, folder / CURVES_FIGURE)
    caption = "what training recorded; a line is one run, a colour one arm"
    return Section("Learning curves", [Image(CURVES_FIGURE, caption)] if drawn else [])


def _tampered(analysis: Mapping[str, Any], findings: Mapping[str, Any]) -> list[str]:
    """Say so where the analysis plan is no longer the one that was frozen."""
    judged_by = findings.get("analysis")
    if not analysis or not judged_by:
        return []
    if analysis == judged_by and analysis_digest(analysis) == analysis.get(DIGEST):
        return []
    return [
        f"{ANALYSIS} was changed after it was frozen: verdicts and expectation are not those planned before the run"
    ]


def _optional(path: Path) -> Mapping[str, Any]:
    return read_table(path) if path.exists() else {}
