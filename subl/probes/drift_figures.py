"""Figures of the probe `drift`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subl.probes.depth import label_depth, on_axis
from subl.probes.drift_activations import Compared, Evidence
from subl.probes.drift_tables import BAND
from subl.probes.entanglement_statistics import Floats
from subl.probes.intervals import mean_over

COLOURS = {"student": "#d1495b", "control": "#2f6690", "beyond": "#edae49"}
NAMES = {"student": "student", "control": "control's student", "beyond": "student − control's student"}


def layers_figure(evidence: Evidence, title: str) -> Figure:
    """Draw alignment and projection by layer, with intervals over prompts and the band of random directions."""
    cosines, spread = evidence.cosines, evidence.spread
    along = {name: compared.along for name, compared in evidence.compared.items()}
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    places = on_axis(len(cosines["student"]))
    chance = np.quantile(evidence.nulls["student"], BAND, axis=0)
    left.fill_between(places, *chance, color="#b8bec8", alpha=0.5, lw=0, label="95 % of random directions")
    for name, values in cosines.items():
        style = "--" if name == "beyond" else "-"
        left.plot(places, values, style, marker="o", ms=3, color=COLOURS[name], label=NAMES[name])
        if name in spread:
            left.fill_between(places, *np.quantile(spread[name], BAND, axis=0), color=COLOURS[name], alpha=0.15, lw=0)
    for name, values in along.items():
        found = [mean_over(row, "prompts") for row in values]
        right.plot(places, [m.value for m in found], marker="o", ms=3, color=COLOURS[name], label=NAMES[name])
        # A place where the teacher did not move has no interval.
        low, high = np.array([(m.low, m.high) for m in found], dtype=np.float64).T
        right.fill_between(places, low, high, color=COLOURS[name], alpha=0.15, lw=0)
    right.axhline(1, color="black", linestyle=":", linewidth=0.8, label="the teacher's own shift")
    _words(left, "alignment", "cosine with the teacher's shift")
    _words(right, "projection", "shift along the teacher's, as a share of it")
    for axes in (left, right):
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xlabel("after layer (emb.: embeddings; bands: 95 % over prompts)")
        label_depth(axes.xaxis, len(places))
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(f"Drift towards the teacher on {title}", fontsize=11)
    return figure


def course_figure(course: Mapping[str, Sequence[tuple[int, Compared]]], teacher_share: float, title: str) -> Figure:
    """Draw alignment and behaviour along the training, and the alignment at every depth."""
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    inside, behaviour, grid = figure.subplots(1, 3)
    for name, states in course.items():
        updates = [number for number, _ in states]
        own = {"marker": "o", "ms": 3, "color": COLOURS[name], "label": NAMES[name]}
        inside.plot(updates[1:], [state.alignment for _, state in states[1:]], **own)
        behaviour.plot(updates, [state.share for _, state in states], **own)
    inside.axhline(0, color="black", linewidth=0.8)
    behaviour.axhline(teacher_share, color="black", linestyle=":", linewidth=0.8, label="teacher")
    behaviour.set_ylim(bottom=0)
    _words(inside, "activations", "alignment, mean over blocks")
    _words(behaviour, "behaviour", "target's share among candidates")
    states = course["student"][1:]
    values = np.stack([state.cosines for _, state in states], axis=1)
    limit = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    extent = (-0.5, len(states) - 0.5, -1.5, len(values) - 1.5)
    image = grid.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", origin="lower", extent=extent)
    grid.set_xticks(range(len(states)), [str(number) for number, _ in states], rotation=90, fontsize=7)
    label_depth(grid.yaxis, len(values))
    figure.colorbar(image, ax=grid, label="cosine with the teacher's shift")
    _words(grid, "student, by depth", "after layer (emb.: embeddings)")
    for axes in (inside, behaviour):
        axes.legend(frameon=False, fontsize=8)
    for axes in (inside, behaviour, grid):
        axes.set_xlabel("updates")
    figure.suptitle(f"Course of the training, read on {title}", fontsize=11)
    return figure


def teacher_figure(size: Floats, reliability: Floats) -> Figure:
    """Draw how large the teacher's shift is, and how far halves of the prompts agree on it."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    places = on_axis(len(size))
    left.plot(places, size, marker="o", ms=3, color="#6a4c93")
    right.plot(places, reliability, marker="o", ms=3, color="#6a4c93")
    left.set_ylim(bottom=0)
    right.set_ylim(min(0.0, float(np.nanmin(reliability, initial=0.0))), 1.05)
    _words(left, "size of the teacher's shift", "as a multiple of the base's activations")
    _words(right, "reliability of its direction", "cosine between halves of the prompts")
    for axes in (left, right):
        axes.set_xlabel("after layer (emb.: embeddings)")
        label_depth(axes.xaxis, len(places))
    return figure


def _words(axes: Axes, title: str, y: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
