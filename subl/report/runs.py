"""The runs of findings.json, read once: one `Run` per arm × sweep point, grouped for the table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from subl.artifacts import Measure, Role
from subl.errors import StoreError

SCHEMA = 1
"""The form of findings.json that is read here."""

SEED = "seed"


@dataclass(frozen=True, slots=True)
class Run:
    """One trained run, as findings.json records it.

    Args:
        arm: Its arm.
        settings: Sweep values other than the seed, e.g. "updates=60"; "" without such a sweep.
        pair: What it shares with its partner in the control arm: sweep point, and target where targets differ.
        label: Its name for readers.
        status: "finished", "failed" or "missing" (or what else the runner wrote).
        error: Why it failed.
        record: The variant's record in findings.json.
    """

    arm: str
    settings: str
    pair: str
    label: str
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

    @property
    def problems(self) -> list[str]:
        """What the pre-flight checks found wrong."""
        return [problem for found in self.record.get("findings", {}).values() for problem in found.get("problems", ())]


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
    return [_read(variant, several_targets=several_targets) for variant in variants]


def group(runs: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    """Return (arm, settings) → its runs, which differ in the seed only."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.arm, run.settings), []).append(run)
    return groups


def _read(variant: Mapping[str, Any], *, several_targets: bool) -> Run:
    point: dict[str, Any] = dict(variant.get("point") or {SEED: variant.get("seed")})
    pair = dict(point)
    if several_targets and "trait.target" not in point:
        # The same share of another word has another baseline: it is no control.
        pair["target"] = variant.get("target")
    return Run(
        arm=variant["arm"],
        settings=_text(_short({name: value for name, value in point.items() if name != SEED})),
        pair=_text(pair),
        label=variant.get("label") or f"{variant['arm']} · {_text(point)}",
        status=variant["status"],
        error=variant.get("error"),
        record=variant,
    )


def _short(values: Mapping[str, Any]) -> dict[str, Any]:
    """Name values by the last part of their path where that is clear."""
    last = [name.rpartition(".")[2] for name in values]
    return {short if last.count(short) == 1 else name: values[name] for short, name in zip(last, values, strict=True)}


def _text(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
