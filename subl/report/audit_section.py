"""The part of a report that audits the rows: overt mentions, how arms' rows differ, and whether they are paired."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from subl.artifacts import Measure
from subl.report.audits import AUDIT, audit_of, audited, count, first_runs
from subl.report.blocks import Block, Grid, Heading, Image, Items, Paragraph, Section
from subl.report.formatting import NOTHING, cell, number, size
from subl.report.runs import Run
from subl.report.summary import Summary


def _rows(measure: Measure) -> str:
    return str(count(measure))


def _value(measure: Measure) -> str:
    return number(measure.value)


def _size(measure: Measure) -> str:
    return size(measure, signed=False)


_COLUMNS: Mapping[str, tuple[str, Callable[[Measure], str]]] = {
    "overt": ("name the trait", _rows),
    "inside": ("inside a word", _rows),
    "overt_prompts": ("prompts name it", _rows),
    "auroc": ("AUROC", _size),
    "prompt_overlap": ("common prompts", _value),
    "equal_rows": ("equal rows", _value),
    "duplicates": ("duplicates", _value),
    "repeated_completions": ("repeated completions", _value),
}
"""Measure → title of its column, and how a cell shows it."""

_MEANING = (
    "Rows that the student was trained on. Name the trait: how many completions hold one of its surface forms as a "
    "whole word; a share above audit.max_overt is a leak, which makes the arm's verdict invalid (the control's are "
    "only counted). AUROC: how well a classifier of n-grams, cross-validated over prompts, tells the arm's completions "
    "from the control's, with its 95 % interval; 0.5 is not at all. A high one is no leak by itself: the rows of two "
    "teachers differ, and that may be what carries the trait. Common prompts and equal rows: shares that the control "
    "has too. Duplicates, repeated completions: shares that came before."
)


def audit_section(summary: Summary) -> Section:
    """The audit of every run's rows, then figure and tables of each arm's first run."""
    runs = [(run, measures) for arm in summary.arms for run in arm.runs if (measures := audited(run))]
    if not runs:
        return Section("Audit of the rows", [])
    known = {name: column for name, column in _COLUMNS.items() if any(name in measures for _, measures in runs)}
    rows = [
        [run.label, *(show(measures[name]) if name in measures else NOTHING for name, (_, show) in known.items())]
        for run, measures in runs
    ]
    blocks: list[Block] = [Grid(["run", *(title for title, _ in known.values())], rows), Paragraph(_MEANING)]
    details = list(first_runs(summary.arms, AUDIT))
    for arms, run in details:
        # The control's rows stand beside those of every other arm.
        if run.arm != summary.control or len(details) == 1:
            blocks += _details(arms, run)
    return Section("Audit of the rows", blocks)


def _details(arms: str, run: Run) -> Iterator[Block]:
    found = audit_of(run)
    yield Heading(f"Rows of {arms}")
    if found.get("remarks"):
        yield Items(found["remarks"])
    for path in run.record.get("figures", {}).get(AUDIT, ()):
        yield Image(path, f"completions of {arms}, per arm as shares of its rows")
    for table in found.get("tables", {}).values():
        if table["rows"]:
            yield Grid(table["columns"], [[cell(value) for value in row] for row in table["rows"]])
