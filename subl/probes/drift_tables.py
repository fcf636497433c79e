"""The findings of the probe `drift` as measures, tables and one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from subl.artifacts import Measure, Table
from subl.probes.depth import place_name
from subl.probes.drift_activations import Compared, Evidence
from subl.probes.drift_statistics import beyond_chance, over_blocks, shares
from subl.probes.entanglement_statistics import Floats
from subl.probes.intervals import LEVEL, mean_over

BAND = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
"""Quantiles of an interval."""


def student_measures(evidence: Evidence) -> dict[str, Measure]:
    """Return the measures of a student; their names are explained in `Drift`."""
    prompts = evidence.teacher.shifts.shape[1]
    full = np.linalg.norm(evidence.direction, axis=-1)
    found: dict[str, Measure] = {}
    for name, one in evidence.compared.items():
        before = "" if name == "student" else f"{name}_"
        size = np.linalg.norm(evidence.shifts[name], axis=-1)
        found[f"{before}alignment"] = _bootstrapped(one.alignment, over_blocks(evidence.spread[name]), prompts)
        found[f"{before}alignment_p"] = _p(evidence, name, one.alignment)
        found[f"{before}projection"] = mean_over(over_blocks(one.along.T), "prompts")
        found[f"{before}relative_shift"] = Measure(float(over_blocks(shares(size, full))))
        found[f"{before}share"] = Measure(one.share)
    if evidence.apart is not None:
        own, other = evidence.compared["student"], evidence.compared["control"]
        difference = float(over_blocks(own.cosines - other.cosines))
        found["alignment_minus_control"] = _bootstrapped(difference, over_blocks(evidence.apart), prompts)
        found["projection_minus_control"] = mean_over(over_blocks((own.along - other.along).T), "prompts")
        beyond = float(over_blocks(evidence.cosines["beyond"]))
        found |= {"beyond_control": Measure(beyond), "beyond_control_p": _p(evidence, "beyond", beyond)}
    reached = evidence.cosines.get("beyond", evidence.cosines["student"])[1:]
    found["peak_after_layer"] = Measure(math.nan if np.isnan(reached).all() else float(np.nanargmax(reached)))
    return found


def _p(evidence: Evidence, name: str, observed: float) -> Measure:
    return Measure(beyond_chance(observed, over_blocks(evidence.nulls[name])))


def _bootstrapped(value: float, samples: Floats, prompts: int) -> Measure:
    if math.isnan(value) or np.isnan(samples).any():
        return Measure(value, n=prompts)
    low, high = np.quantile(samples, BAND)
    return Measure(value, float(low), float(high), prompts, f"95 % bootstrap over {prompts} prompts")


def layers_table(evidence: Evidence) -> Table:
    """Return one row for every place in the student, in the control's, and of what the student has beyond it."""
    rows: list[tuple[object, ...]] = []
    for name, values in evidence.cosines.items():
        for layer, value in enumerate(values):
            known = name in evidence.spread
            ends = np.quantile(evidence.spread[name][:, layer], BAND).tolist() if known else (None, None)
            rows.append(
                (
                    *(
                        name,
                        place_name(layer),
                        float(value),
                        *ends,
                        beyond_chance(float(value), evidence.nulls[name][:, layer]),
                    ),
                    float(evidence.compared[name].along[layer].mean()) if known else None,
                    *(float(np.linalg.norm(v[layer])) for v in (evidence.shifts[name], evidence.direction)),
                )
            )
    columns = ("model", "place", "alignment", "low", "high", "p", "projection", "shift", "teacher_shift")
    return Table(columns, tuple(rows))


def checkpoints_table(course: Mapping[str, Sequence[tuple[int, Compared]]]) -> Table:
    """Return one row for every kept state and place in the stream."""
    rows = [
        (name, updates, place_name(layer), float(state.cosines[layer]), float(state.along[layer].mean()), state.share)
        for name, states in course.items()
        for updates, state in states[1:]
        for layer in range(len(state.cosines))
    ]
    return Table(("model", "updates", "place", "alignment", "projection", "share"), tuple(rows))


def verdict(found: Mapping[str, Measure], target: str) -> str:
    """Say in one sentence what the data allow."""
    own = found["alignment"]
    if math.isnan(own.value):
        return "the student's activations are those of its base: training moved nothing here"
    text = (
        f"the student moved {_percent(found['projection'])} of the teacher's shift along it (alignment {own.value:.2f}"
        f"{_interval(own)}, p {found['alignment_p'].value:.2g} among random directions)"
    )
    if "alignment_minus_control" in found:
        gap = found["alignment_minus_control"]
        text += (
            f"; the control's student {_percent(found['control_projection'])} (alignment "
            f"{found['control_alignment'].value:.2f}), difference of alignments {gap.value:+.2f}{_interval(gap)}"
        )
    beside = f", control's {found['control_share'].value:.3f}" if "control_share" in found else ""
    return f"{text}; {target}'s share is {found['share'].value:.3f} (base {found['base_share'].value:.3f}{beside})"


def _percent(measure: Measure) -> str:
    return f"{round(measure.value, 2) + 0.0:.0%}"  # without the sign of a negative zero


def _interval(measure: Measure) -> str:
    return "" if measure.low is None or measure.high is None else f" [{measure.low:.2f}, {measure.high:.2f}]"
