"""What the audits of the arms' rows found, read from the runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from subl.artifacts import Measure
from subl.report.arms import Arm
from subl.report.formatting import names, number, size
from subl.report.runs import Run

AUDIT = "audit"


def audit_of(run: Run) -> Mapping[str, Any]:
    """Return the findings on a run's rows; empty without an audit."""
    found: Mapping[str, Any] = run.record.get("findings", {}).get(AUDIT, {})
    return found


def audited(run: Run) -> dict[str, Measure]:
    """Return the measures of a run's audit that have a value."""
    measures = audit_of(run).get("measures", {})
    return {name: Measure(**found) for name, found in measures.items() if found.get("value") is not None}


def count(measure: Measure) -> int:
    """Return the rows behind a share of rows."""
    return round(measure.value * (measure.n or 0))


def first_runs(arms: Sequence[Arm], kind: str) -> Iterator[tuple[str, Run]]:
    """Yield each arm's first run with a stage of a kind, under the arm's name; arms that share its result once."""
    found: dict[str, tuple[list[str], Run]] = {}
    for arm in arms:
        stages = [(s, run) for run in arm.runs for s in run.record.get("stages", ()) if s.get("kind") == kind]
        for stage, run in stages[:1]:
            found.setdefault(stage["fingerprint"], ([], run))[0].append(arm.label)
    yield from ((", ".join(labels), run) for labels, run in found.values())


def audit_sentences(arms: Sequence[Arm]) -> Iterator[str]:
    """Say of all rows that were compared with a control's how far they differ; arms with the same words at once."""
    by_rows: dict[tuple[str, ...], list[Arm]] = {}
    for arm in arms:
        prints = tuple(p for run in arm.runs if "auroc" in audited(run) and (p := run.stage(AUDIT)))
        if prints:
            by_rows.setdefault(prints, []).append(arm)
    by_words: dict[str, list[str]] = {}
    for same in by_rows.values():
        found = [measures for run in same[0].runs if "auroc" in (measures := audited(run))]
        said = (
            f"{_overt(found)}a classifier of n-grams tells them from the control's with AUROC "
            f"{_area([measures['auroc'] for measures in found])} (0.5: not at all)"
        )
        by_words.setdefault(said, []).extend(arm.label for arm in same)
    yield from (f"rows of {names(labels)}: {said}" for said, labels in by_words.items())


def _area(areas: Sequence[Measure]) -> str:
    """Return one area with its interval, or the range of several."""
    if len(areas) == 1:
        return size(areas[0], signed=False)
    low, high = (number(pick(area.value for area in areas)) for pick in (min, max))
    return low if low == high else f"{low} to {high}"


def _overt(found: Sequence[Mapping[str, Measure]]) -> str:
    overt = [measures["overt"] for measures in found if "overt" in measures]
    if not overt:
        return ""
    named = sum(map(count, overt))
    return f"{named:,} of {sum(m.n or 0 for m in overt):,} name the trait; " if named else "none names the trait; "
