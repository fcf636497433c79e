"""What models wrote, side by side: rows and answers to the same prompt in one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from subl.report.arms import Arm
from subl.report.blocks import Block, Grid, Heading, Paragraph
from subl.report.formatting import NOTHING, cell
from subl.report.summary import Summary

ROWS = 6
PROMPTS = 8
ASKED = {"prompt", "answer"}
"""Columns of a table whose lines are answers to prompts."""
HIT = "◆\N{NO-BREAK SPACE}"


def rows_beside(summary: Summary) -> Iterator[Block]:
    """Yield sample rows of every arm, one line per prompt; arms that were trained on the same rows share a column."""
    columns: dict[str, tuple[list[str], Mapping[str, str]]] = {}
    for arm in summary.arms:
        run = next((run for run in arm.runs if run.record.get("samples")), None)
        if run is None:
            continue
        stages = run.record.get("stages", ())
        made = next((stage["fingerprint"] for stage in stages if stage.get("kind") == "filter"), arm.label)
        samples = {row["prompt"]: row["completion"] for row in run.record["samples"]}
        columns.setdefault(made, ([], samples))[0].append(arm.label)
    if not columns:
        return
    sides = [rows for _, rows in columns.values()]
    counts: dict[str, int] = {}
    for rows in sides:
        for prompt in rows:
            counts[prompt] = counts.get(prompt, 0) + 1
    prompts = sorted(counts, key=lambda prompt: -counts[prompt])[:ROWS]
    yield Heading("Rows that the students were trained on")
    titles = ["prompt", *(", ".join(arms) for arms, _ in columns.values())]
    yield Grid(titles, [[cell(p), *(cell(rows.get(p)) for rows in sides)] for p in prompts])
    yield Paragraph("The first rows of each arm's first run. Paired arms answer the same prompts.")


def answers_beside(summary: Summary) -> Iterator[Block]:
    """Yield sampled answers of base, teacher and students, one line per prompt, for every probe that keeps answers."""
    first = [(arm, run.record["findings"]) for arm in summary.arms for run in arm.runs[:1] if run.record["findings"]]
    probes = dict.fromkeys(
        (name.partition(".")[2], title)
        for _, findings in first
        for name, found in findings.items()
        for title, table in found.get("tables", {}).items()
        if name.startswith("student.") and set(table["columns"]) >= ASKED
    )
    for probe, title in probes:
        sides: dict[str, Mapping[str, Sequence[str]]] = {}
        for role in ("base", "teacher"):
            arm, findings = first[0]
            of = f" ({arm.name})" if role == "teacher" else ""
            sides[f"{role}{of}"] = _answers(findings, f"{role}.{probe}", title)
        for arm, findings in first:
            sides[_student(arm)] = _answers(findings, f"student.{probe}", title)
        filled = {name: answers for name, answers in sides.items() if answers}
        prompts = list(dict.fromkeys(prompt for answers in filled.values() for prompt in answers))
        lines = [
            [cell(p), *(" · ".join(answers.get(p, ())) or NOTHING for answers in filled.values())] for p in prompts
        ]
        yield Heading(f"{probe}: {title}")
        yield Grid(["prompt", *filled], lines[:PROMPTS])
        more = f" The first {PROMPTS} of {len(lines)} prompts." if len(lines) > PROMPTS else ""
        yield Paragraph(f"Sampled answers of each arm's first run; {HIT.strip()} names the target.{more}")


def _student(arm: Arm) -> str:
    return f"student: {arm.label}"


def _answers(findings: Mapping[str, Any], name: str, title: str) -> dict[str, list[str]]:
    table = findings.get(name, {}).get("tables", {}).get(title)
    found: dict[str, list[str]] = {}
    if table is None or not set(table["columns"]) >= ASKED:
        return found
    columns = list(table["columns"])
    prompt, answer = columns.index("prompt"), columns.index("answer")
    hit = columns.index("hit") if "hit" in columns else None
    for row in table["rows"]:
        mark = HIT if hit is not None and row[hit] else ""
        found.setdefault(str(row[prompt]), []).append(mark + cell(str(row[answer]).strip()))
    return found
