"""Figures of the probe `entanglement`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subl.probes.entanglement_effects import RANDOM, Effects, covariates
from subl.probes.entanglement_shift import NAMES, Shift
from subl.probes.entanglement_statistics import Correlation, Floats, Positions, residuals, specific

COLOURS = {"HP": "#d1495b", "LP": "#00798c", "UNCH": "#edae49", RANDOM: "#b8bec8"}
LABELLED = 60
"""Up to so many numbers are named along the heat map."""


def distribution(effects: Effects, title: str) -> Figure:
    """Draw how step 1 changes all numbers, with the sets marked below."""
    one = effects.one
    figure, axes = _canvas(7, 4)
    bins = np.histogram_bin_edges(one.sorting, "auto")
    axes.hist(one.sorting, bins=list(bins), color=COLOURS[RANDOM])
    for depth, (name, positions) in enumerate(one.sets.named().items(), start=1):
        height = np.full(len(positions), -0.02 * depth)
        axes.plot(
            one.sorting[positions],
            height,
            "|",
            color=COLOURS[name],
            label=f"{name} ({len(positions)})",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.tick_params(axis="x", pad=14)
    _words(axes, f"{title}: step 1 over {len(one.numbers)} numbers", "change under the trait's preamble", "numbers")
    axes.legend(frameon=False)
    return figure


def steps(effects: Effects, title: str) -> Figure:
    """Draw step 1 against step 2 over the fair sample: as measured, minus the other targets, and partial."""
    among = effects.two.among
    sets = {name: np.flatnonzero(np.isin(among, rows)) for name, rows in effects.sets.items()}
    before, after = effects.step1[among], effects.two.change[among]
    held = covariates(effects.one, effects.two, 0)
    panels = {
        "own": (before[:, 0], after[:, 0], "change of the number", "change of the target (nats)"),
        "specific": (
            specific(before)[:, 0],
            specific(after)[:, 0],
            "minus other targets",
            "minus other targets (nats)",
        ),
        "partial": (residuals(before[:, 0], held), residuals(after[:, 0], held), "residual ranks", "residual ranks"),
    }
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    for axes, (name, (x, y, over, up)) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        _scatter(axes, x, y, sets)
        found: Correlation = getattr(effects.correlations, name)
        _words(axes, f"{name}: Spearman {found.rho:.2f}, p {found.p:.2g}", f"step 1: {over}", f"step 2: {up}")
    figure.axes[0].axhline(effects.two.placebo[0], color="black", linestyle=":", label="placebo")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(title)
    return figure


def matrix(effects: Effects, title: str) -> Figure:
    """Draw what HP, UNCH and LP numbers do to every target beyond a placebo, and that minus the other targets."""
    shown = [(label, row) for label in ("HP", "UNCH", "LP") for row in effects.sets[label]]
    changes = effects.two.change[[row for _, row in shown]] - effects.two.placebo
    panels = {"minus placebo": changes, "minus placebo and the other targets": specific(changes)}
    size = len(effects.sets["HP"])
    step = 1 if len(shown) <= LABELLED else size
    words = [f"{label} {effects.one.numbers[effects.two.rows[row]]}" for label, row in shown]
    figure = Figure(figsize=(11, 2.5 + 0.16 * min(len(shown), LABELLED)), layout="constrained")
    for axes, (name, values) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        limit = float(np.abs(values).max()) or 1.0
        image = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
        axes.set_xticks(range(len(effects.one.targets)), effects.one.targets, rotation=90, fontsize=7)
        axes.set_yticks(range(0, len(shown), step), words[::step], fontsize=6)
        for place in (size, 2 * size):
            axes.axhline(place - 0.5, color="black", linewidth=0.8)
        axes.set_title(f"step 2 {name} (nats)", fontsize=9)
        figure.colorbar(image, ax=axes, shrink=0.8)
    figure.suptitle(title)
    return figure


def lengths(effects: Effects, title: str) -> Figure:
    """Draw step 2 by digit length."""
    among = effects.two.among
    digits = effects.one.digits[effects.two.rows[among]]
    groups = sorted(set(digits.tolist()))
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    values = {"own": effects.two.change[among, 0], "specific": effects.alone[among]}
    for axes, (name, effect) in zip(figure.subplots(1, 2), values.items(), strict=True):
        axes.boxplot([effect[digits == length] for length in groups])
        axes.set_xticks(range(1, len(groups) + 1), [f"{length:.0f}" for length in groups])
        axes.axhline(0, color="black", linewidth=0.8)
        _words(axes, f"{name} effect", "digits", "step 2 (nats)")
    figure.suptitle(title)
    return figure


def shift_figure(shift: Shift) -> Figure:
    """Draw how training moved each number, and how far beyond the control, against step 1 in the base."""
    kinds = shift.kinds
    figure = Figure(figsize=(5.2 * len(kinds), 4.5), layout="constrained")
    for axes, (kind, change) in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds.items(), strict=True):
        _scatter(axes, shift.before.sorting, change, shift.groups())
        axes.axhline(0, color="black", linewidth=0.8)
        note = "; correlates by construction" if kind == "shift" else ""
        _words(axes, f"{NAMES[kind]}, without a preamble{note}", "step 1 in the base", "log-probability (nats)")
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def _scatter(axes: Axes, x: Floats, y: Floats, sets: Mapping[str, Positions]) -> None:
    for name in (RANDOM, "UNCH", "LP", "HP"):
        axes.scatter(x[sets[name]], y[sets[name]], s=14, color=COLOURS[name], label=name)


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _words(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
