"""Several runs side by side: only what was asked in the same way, every trained run once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from subl.artifacts import Measure
from subl.errors import StoreError
from subl.recipe.differences import differences
from subl.report.arms import VALID
from subl.report.comparability import Trained, named, refuse_other_questions
from subl.report.evidence import Evidence, holm, weigh
from subl.report.formatting import names
from subl.report.recorded import Recorded
from subl.report.runs import by_arm_and_pair, read_runs, readable
from subl.report.statistics import mean_over_runs, paired_difference, welch_difference
from subl.report.summary import summarise

By = Literal["run", "arm", "trait", "distiller"]
BY: tuple[By, ...] = ("run", "arm", "trait", "distiller")
_BESIDE = ("seed", "title", "tracking", "compute", "report", "trait.target")
"""Parts of a recipe in which runs may differ without being another experiment."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the comparison.

    Args:
        group: What is compared: a run, a trait or a distiller; "" where the arms are.
        arm: The arm, with swept values other than seeds.
        members: Its students.
        before: Mean of the base models.
        after: Mean of the students.
        valid: Mean valid share of the students; None if not measured.
        against: The arm that the lift is over (several where the runs' recipes name others); None without one.
        lift: Its mean; NaN without pairs.
        evidence: Tests of the lifts.
        adjusted: p, adjusted by Holm for all lines.
        difference: Lift minus that of the first line that it can be compared with; None for that line itself.
        paired: Whether the difference is over common seeds.
    """

    group: str
    arm: str
    members: tuple[Trained, ...]
    before: Measure
    after: Measure
    valid: Measure | None
    against: str | None
    lift: Measure
    evidence: Evidence
    adjusted: float
    difference: Measure | None
    paired: bool

    @property
    def label(self) -> str:
        """Group and arm."""
        return " · ".join(filter(None, (self.group, self.arm)))


@dataclass(frozen=True, slots=True)
class Comparison:
    """The lines, and what a reader must know about them."""

    metric: str
    by: By
    lines: tuple[Line, ...]
    warnings: tuple[str, ...]


def compare_runs(recorded: Sequence[Recorded], *, by: By = "run", metric: str | None = None) -> Comparison:
    """Compare runs.

    Args:
        recorded: The runs.
        by: What makes a line, besides the arm.
        metric: "<probe>.<measure>"; the runs' own if None.

    Raises:
        StoreError: The runs cannot be compared: other metrics, other questions, or another rendering.
    """
    chosen = metric or _common_metric(recorded)
    found: list[Trained] = []
    for one in recorded:
        with readable(one.findings):
            found += _trained(one, chosen)
    measured = [trained for trained in found if math.isfinite(trained.after)]
    if not measured:
        known = sorted({name for one in recorded for name in _measures(one)})
        raise StoreError(
            f"no student of these runs has a value of {chosen!r}; measured: {names(known, 12) or 'nothing'}"
        )
    probe = chosen.partition(".")[0]
    unknown = refuse_other_questions(measured, probe)
    lines, again = _lines(measured, by, probe)
    twice = [f"{again} students stand in several of these runs and count once"] if again else []
    warnings = [*_failures(found, chosen), *_invalid(recorded), *unknown, *twice, *_mixtures(lines)]
    return Comparison(chosen, by, tuple(lines), tuple(warnings))


def _common_metric(recorded: Sequence[Recorded]) -> str:
    metrics = {str(one.findings.get("metric")): one.name for one in recorded}
    if len(metrics) > 1:
        listed = ", ".join(f"{metric} ({run})" for metric, run in metrics.items())
        raise StoreError(f"these runs are about different metrics: {listed}; name one with --metric")
    return next(iter(metrics))


def _measures(one: Recorded) -> Iterator[str]:
    for variant in one.findings.get("variants", ()):
        for name, found in variant.get("findings", {}).items():
            if name.startswith("student."):
                yield from (f"{name.removeprefix('student.')}.{measure}" for measure in found.get("measures", {}))


def _trained(one: Recorded, metric: str) -> list[Trained]:
    runs = read_runs(one.findings)
    partners = by_arm_and_pair(runs)
    valid = f"{metric.partition('.')[0]}.{VALID}"
    return [
        Trained(
            recorded=one,
            run=run,
            before=run.value("base", metric),
            after=run.value("student", metric),
            valid=run.value("student", valid),
            lift=run.lift(partners, metric),
        )
        for run in runs
    ]


def _once(members: Sequence[Trained], probe: str) -> list[Trained]:
    """Count a student that several runs took from the store once; one with a lift is kept before one without."""
    kept: dict[Any, Trained] = {}
    for trained in members:
        identity = trained.run.stage(f"student.{probe}") or (trained.recorded.name, trained.run.label)
        before = kept.get(identity)
        if before is None or (math.isnan(before.lift) and not math.isnan(trained.lift)):
            kept[identity] = trained
    return list(kept.values())


def _lines(measured: Sequence[Trained], by: By, probe: str) -> tuple[list[Line], int]:
    """Return the lines, and how many students were left out because another run of their line has the same."""
    groups: dict[tuple[str, str], list[Trained]] = {}
    for trained in measured:
        arm = " · ".join(filter(None, (trained.run.arm, trained.run.settings)))
        groups.setdefault((_group(trained, by), arm), []).append(trained)
    groups = {key: _once(members, probe) for key, members in groups.items()}
    lifted = {key: [t.lift for t in members if math.isfinite(t.lift)] for key, members in groups.items()}
    family = max(1, sum(len(lifts) > 1 for lifts in lifted.values()))
    tests = {key: weigh(lifts, family=family) for key, lifts in lifted.items()}
    adjusted = dict(zip(tests, holm([evidence.t for evidence in tests.values()]), strict=True))
    lines: list[Line] = []
    for (group, arm), members in groups.items():
        lifts = lifted[group, arm]
        valid = [t.valid for t in members if math.isfinite(t.valid)]
        reference = next((line for line in lines if by == "arm" or line.arm == arm), None)
        difference, paired = _difference(members, reference)
        lines.append(
            Line(
                group=group,
                arm=arm,
                members=tuple(members),
                before=mean_over_runs([t.before for t in members if math.isfinite(t.before)]),
                after=mean_over_runs([t.after for t in members]),
                valid=mean_over_runs(valid) if valid else None,
                against=" or ".join(dict.fromkeys(t.run.reference for t in members if t.run.reference)) or None,
                lift=mean_over_runs(lifts, "pairs"),
                evidence=tests[group, arm],
                adjusted=adjusted[group, arm],
                difference=difference,
                paired=paired,
            )
        )
    return lines, len(measured) - sum(map(len, groups.values()))


def _difference(members: Sequence[Trained], reference: Line | None) -> tuple[Measure | None, bool]:
    """Return the difference of lifts from a reference line: over common seeds if there are any, else Welch's."""
    if reference is None:
        return None, False
    here, there = _by_seed(members), _by_seed(reference.members)
    if not here or not there:
        return None, False
    paired = paired_difference(here, there)
    if len(paired.differences) == len(here) == len(there):
        return paired.mean, True
    return welch_difference(list(here.values()), list(there.values())), False


def _by_seed(members: Sequence[Trained]) -> dict[str, float]:
    """Return seed → lift; keys that no other line has where a seed stands for several students."""
    measured = [t for t in members if math.isfinite(t.lift)]
    seeds = {t.run.replicate: t.lift for t in measured}
    return seeds if len(seeds) == len(measured) else {f"{named(t)} #{n}": t.lift for n, t in enumerate(measured)}


def _group(trained: Trained, by: By) -> str:
    if by == "trait":
        return str(trained.run.record.get("target"))
    if by == "distiller":
        recipe = trained.recorded.recipes.get(trained.run.label, {})
        return str(recipe.get("distiller", {}).get("plugin", "?"))
    return trained.recorded.name if by == "run" else ""


def _failures(found: Sequence[Trained], metric: str) -> Iterator[str]:
    for trained in found:
        if trained.run.status == "failed":
            reason = (trained.run.error or "no reason recorded").strip().splitlines()[0]
            yield f"{named(trained)} failed and is left out: {reason}"
        elif not math.isfinite(trained.after):
            yield f"{named(trained)} has no value of {metric} and is left out ({trained.run.status})"
    paired = {id(t.recorded) for t in found if math.isfinite(t.lift)}
    alone = list(dict.fromkeys(t.recorded.name for t in found if id(t.recorded) not in paired))
    if alone:
        yield f"no pairs with a control, and so no lift: {names(alone)}"


def _invalid(recorded: Sequence[Recorded]) -> Iterator[str]:
    """Carry over which contrasts mean nothing, by the verdicts of the runs themselves.

    By another metric, such as a loss, a good teacher need not be above its base model.
    """
    for one in recorded:
        for contrast, verdict in summarise(one.findings).judged:
            if verdict.kind == "invalid":
                yield f"{one.name}: {contrast.label} is invalid, {verdict.reason}"


def _mixtures(lines: Sequence[Line]) -> Iterator[str]:
    """Name what else differs inside one line: a mean over different experiments is easily misread."""
    for line in lines:
        recipes = [t.recorded.recipes.get(t.run.label) for t in line.members]
        known = [_semantic(recipe) for recipe in recipes if recipe is not None]
        mixed = dict.fromkeys(path for recipe in known[1:] for path in differences(known[0], recipe))
        if mixed:
            yield f"{line.label or line.arm} puts runs together that differ in {names(list(mixed))}"


def _semantic(recipe: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in recipe.items() if name not in _BESIDE}
    if isinstance(kept.get("trait"), Mapping):
        kept["trait"] = {name: value for name, value in kept["trait"].items() if f"trait.{name}" not in _BESIDE}
    return kept
