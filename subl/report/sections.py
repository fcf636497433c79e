"""The parts of a report, in its order: result, models, rows, answers and figures, stages, how to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from subl.artifacts import Role
from subl.report.arms import compare_arms, mean
from subl.report.audits import AUDIT, first_runs
from subl.report.beside import answers_beside, rows_beside
from subl.report.blocks import Block, Code, Grid, Heading, Image, Items, Paragraph, Section, Verdicts
from subl.report.cells import table_cells
from subl.report.evidence import benjamini_hochberg, weigh
from subl.report.formatting import NOTHING, cell, change, interval, number, probability, size
from subl.report.remarks import found
from subl.report.runs import Run
from subl.report.summary import Summary

TABLE_ROWS = 8


def result_section(summary: Summary, figure: str | None) -> Section:
    """The question, the verdicts, the main figure, the table, and what limits them."""
    blocks: list[Block] = [Paragraph(f"Run {summary.run} ({summary.status}), primary metric {summary.metric}.")]
    measure = summary.metric.partition(".")[2]
    verdicts: list[tuple[str, str, str, str]] = [
        (verdict.kind, contrast.label, verdict.label, f"{found(contrast, measure)}{verdict.reason}")
        for contrast, verdict in summary.judged
    ]
    if summary.expectation is not None:
        expected = summary.expectation
        verdicts.append(("expectation", "Expectation", expected.outcome, expected.text))
    if verdicts:
        blocks.append(Verdicts(verdicts))
    if figure is not None:
        bars = sorted({arm.student.interval for arm in summary.arms if arm.student and arm.student.interval})
        caption = f"{summary.metric} of base model and student; every run is a dot"
        blocks.append(Image(figure, "; bars: ".join([caption, *filter(None, [", ".join(bars)])])))
    blocks.append(Grid(*table_cells(summary)))
    told = summary.sentences[len(summary.judged) :]
    if told:
        blocks.append(Items(told))
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
    from subl.probes.intervals import rate_over

    reasons = list(dict.fromkeys(reason for run in runs for reason in run.record["data"]["rejected"]))
    rows = []
    for run in runs:
        data = run.record["data"]
        rejected = [data["rejected"].get(reason, 0) for reason in reasons]
        kept = data["seen"] - sum(rejected)
        share = size(rate_over(kept, data["seen"], "rows"), signed=False)
        rows.append([run.label, str(data["seen"]), str(kept), share, str(data["rows"]), *map(str, rejected)])
    blocks: list[Block] = [
        Grid(["run", "seen", "kept", "yield", "used", *reasons], rows),
        Paragraph("Yield: kept / seen, with its 95 % Wilson interval. Used: rows that the student was trained on."),
    ]
    blocks += (
        Image(path, f"{PurePosixPath(path).stem.replace('.', ' ')}: rows of {arms}")
        for arms, run in first_runs(summary.arms, "filter")
        for path in run.record.get("figures", {}).get("filter", ())
    )
    blocks += rows_beside(summary)
    return Section("Rows", blocks)


def measures_section(summary: Summary) -> Section:
    """Every measure of every probe, per arm: the mean over its runs, before and after; then its lift."""
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
    blocks: list[Block] = [Grid(["measure", *(arm.label for arm in summary.arms)], rows)] if rows else []
    return Section("All measures, base → student", [*blocks, *_lifts(summary, list(metrics))], details=True)


def _lifts(summary: Summary, metrics: Sequence[str]) -> Iterator[Block]:
    """Yield the lift of every measure; many tests, so p is adjusted for false discoveries."""
    cells: dict[tuple[str, str], str] = {}
    p_values: dict[tuple[str, str], float] = {}
    for metric in metrics:
        for arm in compare_arms(_runs(summary), metric):
            if arm.lift is not None and arm.lift.differences:
                cells[metric, arm.label] = size(arm.lift.mean, between="\n")
                p_values[metric, arm.label] = weigh(list(arm.lift.differences.values())).t
    adjusted = dict(zip(p_values, benjamini_hochberg(list(p_values.values())), strict=True))
    arms = list(dict.fromkeys(arm for _, arm in cells))
    over = {arm.label: arm.against for arm in summary.arms}
    rows = [
        [metric, *(f"{cells.get((metric, arm), NOTHING)}\n{_q(adjusted.get((metric, arm)))}".rstrip() for arm in arms)]
        for metric in metrics
    ]
    if arms:
        yield Heading("Lift of every measure")
        yield Grid(["measure", *(f"{arm}\nvs {over[arm]}" for arm in arms)], rows)
        yield Paragraph(
            "q: p of the paired t test, adjusted for false discoveries over all cells of this table "
            "(Benjamini–Hochberg)."
        )


def _q(value: float | None) -> str:
    return "" if value is None else probability(value, "q")


def answers_section(summary: Summary) -> Section:
    """Sampled answers, side by side."""
    return Section("Answers", list(answers_beside(summary)))


def findings_section(summary: Summary) -> Section:
    """What the probes found in each arm's first run: the student's tables; remarks and figures of every model."""
    blocks: list[Block] = []
    for arm in summary.arms:
        run = next((run for run in arm.runs if run.record.get("findings")), None)
        if run is None:
            continue
        # The audit has a section of its own.
        own = [(name, found) for name, found in run.record["findings"].items() if name != AUDIT]
        inside = [block for name, found in own for block in _found(run, name, found)]
        if inside:
            blocks += [Heading(run.label), *inside]
    return Section("Findings and figures, first run of each arm", blocks, details=True)


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
    return Section(
        "Stages", [Grid(["run", "stage", "plugin", "time", "fingerprint"], rows)] if rows else [], details=True
    )


def reproduction_section(summary: Summary, environment: Mapping[str, Any], analysis: Mapping[str, Any]) -> Section:
    """The command, seeds, versions, git state, machine and the frozen analysis plan."""
    blocks: list[Block] = []
    if environment.get("command"):
        blocks.append(Code(f"{shlex.join(map(str, environment['command']))}\n\nsubl resume {summary.run}"))
    seeds = sorted({str(run.record.get("seed")) for run in _runs(summary)})
    state = environment.get("git") or {}
    changed = ", with changes that were not committed" if state.get("changed") else ""
    git = f" Git commit {state['commit']}{changed}." if state.get("commit") else ""
    blocks.append(
        Paragraph(
            f"Seeds: {', '.join(seeds)}.{git} The folder of this report holds every recipe file that was read, the "
            "resolved recipe, local plugins and the hashed key of every stage: the second command needs nothing else."
        )
    )
    if analysis.get("sha256"):
        blocks.append(
            Paragraph(
                f"Contrasts, metric and expectation were frozen before the first stage (analysis.json, sha256 "
                f"{analysis['sha256']})."
            )
        )
    facts = [[name, cell(value)] for name, value in _flat(environment) if name != "command"]
    if facts:
        blocks.append(Grid(["environment", ""], facts))
    return Section("How to repeat it", blocks)


def _runs(summary: Summary) -> list[Run]:
    return [run for arm in summary.arms for run in arm.runs]


def _check_table(summary: Summary) -> Iterator[Block]:
    checked = [(run, run.record.get("findings", {}).get("check", {}).get("measures", {})) for run in _runs(summary)]
    names = list(dict.fromkeys(name for _, measures in checked for name in measures))
    rows = [
        [run.label, *(cell(measures.get(name, {}).get("value")) for name in names)]
        for run, measures in checked
        if measures
    ]
    if rows:
        yield Heading("Checks of the teacher")
        yield Grid(["run", *names], rows)


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
        yield Grid(table["columns"], [[cell(value) for value in row] for row in table["rows"][:TABLE_ROWS]])
    yield from (Image(path, f"{name} of {run.label}") for path in figures)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield f"{prefix}{name}", ", ".join(map(str, value)) or None
        elif value is not None:
            yield f"{prefix}{name}", value
