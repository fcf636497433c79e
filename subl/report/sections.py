"""The parts of a report, in its order: result, models, rows, answers and figures, stages, how to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from subl.artifacts import Role
from subl.report.arms import mean
from subl.report.blocks import Block, Code, Grid, Heading, Image, Items, Paragraph, Section
from subl.report.cells import table_cells
from subl.report.formatting import NOTHING, change, interval, number
from subl.report.runs import Run
from subl.report.summary import Summary

SAMPLE_ROWS = 5
TABLE_ROWS = 8
LONGEST_CELL = 300


def result_section(summary: Summary, figure: str | None) -> Section:
    """The question, the table, the main figure, and both in words."""
    blocks: list[Block] = [Paragraph(f"Run {summary.run} ({summary.status}), primary metric {summary.metric}.")]
    blocks.append(Grid(*table_cells(summary)))
    if figure is not None:
        bars = sorted({arm.student.interval for arm in summary.arms if arm.student and arm.student.interval})
        caption = f"{summary.metric} of base model and student; every run is a dot"
        blocks.append(Image(figure, "; bars: ".join([caption, *filter(None, [", ".join(bars)])])))
    if summary.sentences:
        blocks.append(Items(summary.sentences))
    if summary.warnings:
        blocks += [Heading("Mind"), Items(summary.warnings)]
    return Section(summary.title or summary.run, blocks)


def models_section(summary: Summary) -> Section:
    """The primary metric of base, teacher and student in every run: how strong was the teacher?"""
    roles: tuple[Role, ...] = ("base", "teacher", "student")
    rows = []
    for run in _runs(summary):
        found = [run.measure(role, summary.metric) for role in roles]
        cells = [NOTHING if m is None else f"{number(m.value)} {interval(m)}".rstrip() for m in found]
        rows.append([run.label, *cells, str(run.record.get("updates") or NOTHING)])
    of = sorted(
        {
            m.interval
            for run in _runs(summary)
            for role in roles
            if (m := run.measure(role, summary.metric)) and m.interval
        }
    )
    blocks: list[Block] = [Grid(["run", "base", "teacher", "student", "student's updates"], rows)]
    if of:
        blocks.append(Paragraph(f"Intervals here are within one run: {', '.join(of)}."))
    blocks += _check_table(summary)
    return Section("Teachers and students", blocks)


def rows_section(summary: Summary) -> Section:
    """How many rows were generated and kept, why the others were not, and what rows look like."""
    runs = [run for run in _runs(summary) if run.record.get("data")]
    if not runs:
        return Section("Rows", [])
    reasons = list(dict.fromkeys(reason for run in runs for reason in run.record["data"]["rejected"]))
    rows = []
    for run in runs:
        data = run.record["data"]
        share = number(data["rows"] / data["seen"]) if data["seen"] else NOTHING
        rejected = [str(data["rejected"].get(reason, 0)) for reason in reasons]
        rows.append([run.label, str(data["seen"]), str(data["rows"]), share, *rejected])
    blocks: list[Block] = [Grid(["run", "seen", "kept", "yield", *reasons], rows)]
    for arm in summary.arms:
        samples: Sequence[Mapping[str, str]] = next(
            (run.record["samples"] for run in arm.runs if run.record.get("samples")), []
        )
        if samples:
            cells = [[_cell(row["prompt"]), _cell(row["completion"])] for row in samples[:SAMPLE_ROWS]]
            blocks += [Heading(f"Rows of {arm.label}"), Grid(["prompt", "completion"], cells)]
    return Section("Rows", blocks)


def measures_section(summary: Summary) -> Section:
    """Every measure of every probe, per arm: the mean over its runs, before and after."""
    metrics = dict.fromkeys(
        f"{name.removeprefix('student.')}.{measure}"
        for run in _runs(summary)
        for name, found in run.record.get("findings", {}).items()
        if name.startswith("student.")
        for measure in found.get("measures", {})
    )
    rows = [
        [metric, *(change(mean(arm.runs, "base", metric), mean(arm.runs, "student", metric)) for arm in summary.arms)]
        for metric in metrics
    ]
    title = "All measures, base → student"
    return Section(title, [Grid(["measure", *(arm.label for arm in summary.arms)], rows)] if rows else [])


def answers_section(summary: Summary) -> Section:
    """What the probes found in each arm's first run: the student's tables; remarks and figures of every model."""
    blocks: list[Block] = []
    for arm in summary.arms:
        run = next((run for run in arm.runs if run.record.get("findings")), None)
        if run is None:
            continue
        inside = [block for name, found in run.record["findings"].items() for block in _found(run, name, found)]
        if inside:
            blocks += [Heading(run.label), *inside]
    return Section("Answers and figures, first run of each arm", blocks)


def stages_section(summary: Summary) -> Section:
    """Every stage with its fingerprint, and whether it came from the store."""
    rows = [
        [
            run.label,
            stage["stage"],
            stage["plugin"],
            "cached" if stage["cached"] else f"{stage['seconds']:.1f} s",
            stage["fingerprint"],
        ]
        for run in _runs(summary)
        for stage in run.record.get("stages", ())
    ]
    return Section("Stages", [Grid(["run", "stage", "plugin", "time", "fingerprint"], rows)] if rows else [])


def reproduction_section(summary: Summary, environment: Mapping[str, Any]) -> Section:
    """The command, seeds, versions and machine."""
    blocks: list[Block] = []
    if environment.get("command"):
        blocks.append(Code(shlex.join(map(str, environment["command"]))))
    seeds = sorted({str(run.record.get("seed")) for run in _runs(summary)})
    blocks.append(
        Paragraph(
            f"Seeds: {', '.join(seeds)}. The folder recipe beside this report holds every recipe file that was read."
        )
    )
    facts = [[name, _cell(value)] for name, value in _flat(environment) if name != "command"]
    if facts:
        blocks.append(Grid(["environment", ""], facts))
    return Section("How to repeat it", blocks)


def _runs(summary: Summary) -> list[Run]:
    return [run for arm in summary.arms for run in arm.runs]


def _check_table(summary: Summary) -> Iterator[Block]:
    rows = []
    for run in _runs(summary):
        measures = run.record.get("findings", {}).get("check", {}).get("measures", {})
        cells = [f"{name} {number(found['value'])}" for name, found in measures.items() if found["value"] is not None]
        if cells:
            rows.append([run.label, ", ".join(cells)])
    if rows:
        yield Heading("Checks of the teacher")
        yield Grid(["run", "found"], rows)


def _found(run: Run, name: str, found: Mapping[str, Any]) -> Iterator[Block]:
    figures = run.record.get("figures", {}).get(name, ())
    tables = found.get("tables", {}) if name.startswith("student.") else {}
    if found.get("remarks"):
        yield Items([f"{name}: {remark}" for remark in found["remarks"]])
    for title, table in tables.items():
        more = len(table["rows"]) - TABLE_ROWS
        yield Paragraph(
            f"{name}, {title}" + (f" (first {TABLE_ROWS} of {len(table['rows'])} rows)" if more > 0 else "")
        )
        yield Grid(table["columns"], [[_cell(cell) for cell in row] for row in table["rows"][:TABLE_ROWS]])
    yield from (Image(path, f"{name} of {run.label}") for path in figures)


def _cell(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, float):
        return number(value)
    text = str(value)
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield f"{prefix}{name}", ", ".join(map(str, value)) or None
        elif value is not None:
            yield f"{prefix}{name}", value
