"""The runs of findings.json, read once: one `Run` per arm × sweep point, grouped for the table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from subl.artifacts import Measure, Role
from subl.errors import StoreError
from subl.recipe.model import contrast_arms
from subl.report.statistics import from_base

SCHEMA = 1
"""The form of findings.json that is read here."""

SEED = "seed"

FIELDS: Mapping[str, str] = {
    "schema": "form of this file; it grows by new fields without another number",
    "run": "id of the run, and name of its folder",
    "title": "the question that the recipe asks",
    "recipe": "name of the recipe",
    "status": "running, finished, failed, interrupted or killed",
    "control": "arm that others are compared with",
    "metric": "primary metric, <probe>.<measure>",
    "analysis": "[report] as frozen before the first stage, with its sha256",
    "results_known": "whether students were measured before an expectation, if there is one, was frozen",
    "arms": "names of the arms",
    "variants": "one record per arm and sweep point",
}
"""The fields of findings.json."""

VARIANT_FIELDS: Mapping[str, str] = {
    "arm": "name of the arm",
    "point": "swept path → value",
    "label": "arm and sweep point, for readers",
    "seed": "seed of the recipe",
    "target": "what the trait is about; null without a trait",
    "status": "missing, finished, failed or interrupted",
    "error": "why it failed",
    "findings": "check, audit or <role>.<probe> → measures (value, low, high, n, interval), tables, remarks, problems",
    "stages": "stage, kind, plugin, fingerprint, cached, seconds",
    "data": "rows kept, rows seen, reason → rows rejected, and the kept rows' path and sha256",
    "samples": "the first rows that the student was trained on: prompt, completion",
    "updates": "optimizer updates of the student",
    "rendering": "digest of the chat rendering that the student was trained with",
    "figures": "check, filter, audit or <role>.<probe> → paths relative to the run folder",
}
"""The fields of one of its variants; numbers that do not exist are null."""


@dataclass(frozen=True, slots=True)
class Run:
    """One trained run, as findings.json records it.

    Args:
        arm: Its arm.
        settings: Sweep values other than seeds, e.g. "updates=60"; "" without such a sweep.
        seeds: The swept paths that only make replicates, see `swept_seeds`.
        reference: The arm that its lift is against, see `reference_arms`; None for one that others are compared with.
        pair: What it shares with its partner in that arm: sweep point, and target where targets differ.
        rest: The sweep point without the target.
        label: Its name for readers.
        point: Swept path → value; the seed also where it is not swept.
        status: "finished", "failed" or "missing" (or what else the runner wrote).
        error: Why it failed.
        record: The variant's record in findings.json.
    """

    arm: str
    settings: str
    seeds: frozenset[str]
    reference: str | None
    pair: str
    rest: str
    label: str
    point: Mapping[str, Any]
    status: str
    error: str | None
    record: Mapping[str, Any]

    def measure(self, role: Role, metric: str) -> Measure | None:
        """Return a measure "<probe>.<measure>" of one of the run's models; None if there is no such number."""
        probe, _, name = metric.partition(".")
        found = self.record.get("findings", {}).get(f"{role}.{probe}", {}).get("measures", {}).get(name)
        if found is None or found.get("value") is None or not math.isfinite(found["value"]):
            return None
        return Measure(**found)

    def value(self, role: Role, metric: str) -> float:
        """Return a measure's value; NaN if there is no such number."""
        found = self.measure(role, metric)
        return math.nan if found is None else found.value

    def stage(self, name: str) -> str | None:
        """Return the fingerprint of a stage; None if it was not reached."""
        return next((str(s["fingerprint"]) for s in self.record.get("stages", ()) if s["stage"] == name), None)

    def lift(self, partners: Mapping[tuple[str | None, str], Run], metric: str) -> float:
        """Return how much further this student moved than its partner; NaN without one, or without a value.

        Args:
            partners: All runs, by arm and pair.
            metric: "<probe>.<measure>".
        """
        other = partners.get((self.reference, self.pair))
        if other is None:
            return math.nan
        before, start = self.value("base", metric), other.value("base", metric)
        return from_base(self.value("student", metric), before, start) - other.value("student", metric)

    def without(self, path: str) -> str:
        """Return the sweep point without one of its values, as text."""
        return text_of({name: value for name, value in self.point.items() if name != path})

    @property
    def replicate(self) -> str:
        """The run's seeds, as text: what a partner in another experiment has in common with it."""
        swept = {path: value for path, value in self.point.items() if path in self.seeds}
        return text_of({SEED: self.record.get("seed"), **swept})

    @property
    def faults(self) -> dict[str, list[str]]:
        """What checks, audits and probes found wrong: "check", "audit" or "<role>.<probe>" → problems."""
        found = self.record.get("findings", {})
        return {name: list(record["problems"]) for name, record in found.items() if record.get("problems")}

    @property
    def problems(self) -> list[str]:
        """What checks, audits and probes found wrong, in one list."""
        return [problem for problems in self.faults.values() for problem in problems]


@contextmanager
def readable(findings: Mapping[str, Any]) -> Iterator[None]:
    """Turn what is missing or malformed in findings.json into one message.

    Raises:
        StoreError: Something was.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise StoreError(
            f"findings.json of run {findings.get('run', '?')} is not in the form that this version of subl writes "
            f"({type(error).__name__}: {error}); run the recipe again to make it anew, finished stages are cached"
        ) from error


def read_runs(findings: Mapping[str, Any]) -> list[Run]:
    """Return the runs in the order of findings.json.

    Raises:
        StoreError: Another version of subl wrote the findings.
    """
    if findings.get("schema") != SCHEMA:
        raise StoreError(
            f"findings.json of run {findings.get('run', '?')} has schema {findings.get('schema')}, this version of "
            f"subl reads {SCHEMA}; run the recipe again to make it anew, finished stages are cached"
        )
    variants: Sequence[Mapping[str, Any]] = findings["variants"]
    several_targets = len({variant.get("target") for variant in variants}) > 1
    seeds = swept_seeds(variants)
    references = reference_arms(findings)
    return [_read(variant, seeds, references, several_targets=several_targets) for variant in variants]


def reference_arms(findings: Mapping[str, Any]) -> dict[str, str]:
    """Return arm → the arm that its lift is against.

    That is the second arm of the first contrast that the recipe names for it, and the control otherwise. The control,
    and arms that are only there for others to be compared with, have none.
    """
    control: str = findings["control"]
    # Runs of earlier versions have no analysis plan: then all arms are compared with the control.
    contrasts = [contrast_arms(name) for name in (findings.get("analysis") or {}).get("contrasts") or ()]
    named = {sides[0]: sides[-1] if len(sides) > 1 else control for sides in reversed(contrasts)}
    serving = {control, *(sides[-1] for sides in contrasts if len(sides) > 1)}
    arms = dict.fromkeys(variant["arm"] for variant in findings["variants"])
    return {arm: named.get(arm, control) for arm in arms if arm in named or arm not in serving}


def by_arm_and_pair(runs: Sequence[Run]) -> dict[tuple[str | None, str], Run]:
    """Return the runs as partners of others, see `Run.lift`."""
    return {(run.arm, run.pair): run for run in runs}


def swept_seeds(variants: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Return the paths whose values make replicates, not conditions: "seed", "teacher.init_seed" and the like.

    A seed by which some students of an arm start from their teacher's weights and others do not is a condition: that
    difference is what controls of another initialisation are about.
    """
    named = {path for variant in variants for path in variant.get("point") or () if _is_seed(path)}
    return frozenset({SEED, *(path for path in named if not _decides_kinship(path, variants))})


def _is_seed(path: str) -> bool:
    name = path.rpartition(".")[2]
    return name == SEED or name.endswith(f"_{SEED}")


def _decides_kinship(path: str, variants: Sequence[Mapping[str, Any]]) -> bool:
    kinship: dict[tuple[str, str], set[bool]] = {}
    for variant in variants:
        bases = {
            stage["stage"]: stage["fingerprint"] for stage in variant.get("stages", ()) if stage["kind"] == "model"
        }
        teacher = bases.get("teacher model")
        if teacher is not None:
            others = text_of({name: value for name, value in (variant.get("point") or {}).items() if name != path})
            same = bases.get("student model", teacher) == teacher
            kinship.setdefault((variant["arm"], others), set()).add(same)
    return any(len(found) > 1 for found in kinship.values())


def group(runs: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    """Return (arm, settings) → its runs, which differ in seeds only."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.arm, run.settings), []).append(run)
    return groups


def _read(
    variant: Mapping[str, Any], seeds: frozenset[str], references: Mapping[str, str], *, several_targets: bool
) -> Run:
    point: dict[str, Any] = dict(variant.get("point") or {SEED: variant.get("seed")})
    pair = dict(point)
    if several_targets and "trait.target" not in point:
        # The same share of another word has another baseline: it is no control.
        pair["target"] = variant.get("target")
    return Run(
        arm=variant["arm"],
        settings=text_of(_short({name: value for name, value in point.items() if name not in seeds})),
        seeds=seeds,
        reference=references.get(variant["arm"]),
        pair=text_of(pair),
        rest=text_of({name: value for name, value in point.items() if name != "trait.target"}),
        label=variant.get("label") or f"{variant['arm']} · {text_of(point)}",
        point=point,
        status=variant["status"],
        error=variant.get("error"),
        record=variant,
    )


def _short(values: Mapping[str, Any]) -> dict[str, Any]:
    """Name values by the last part of their path where that is clear."""
    last = [name.rpartition(".")[2] for name in values]
    return {short if last.count(short) == 1 else name: values[name] for short, name in zip(last, values, strict=True)}


def text_of(values: Mapping[str, Any]) -> str:
    """Return values as "name=value, …"."""
    return ", ".join(f"{name}={value}" for name, value in values.items())
