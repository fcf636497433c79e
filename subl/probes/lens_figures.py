"""Figures of the probe `lens`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from subl.probes.depth import label_depth, on_axis
from subl.probes.entanglement_figures import COLOURS
from subl.probes.entanglement_statistics import Floats
from subl.probes.intervals import mean_over
from subl.probes.lens_readings import Depth, Parts
from subl.probes.lens_statistics import Rise

OWN, BASE, CHANGE = "#d1495b", "#8d99ae", "#6a4c93"
PARTS = {"attention": "#2f6690", "mlp": "#edae49"}
STEERING = {"steering": "#d1495b"}
DEPTH = "after layer (emb.: embeddings)"


def depth_figure(own: Depth, base: Depth | None, rising: Rise, title: str) -> Figure:
    """Draw the margin and the target's log-probability by depth, with the spread over questions."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    if base is not None:
        _curve(left, base.margin, BASE, "base", "questions")
        _curve(right, base.log_prob, BASE, "base", "questions")
    _curve(left, own.margin, OWN, "this model", "questions")
    _curve(right, own.log_prob, OWN, "this model", "questions")
    if base is not None:
        _curve(left, own.margin - base.margin, CHANGE, "change from the base", "questions")
    left.axvspan(rising.layer - 1, rising.layer, color=CHANGE if base else OWN, alpha=0.1, lw=0, label="largest step")
    left.axhline(0, color="black", linewidth=0.8)
    _words(left, "margin of the target", DEPTH, "logit minus the controls' mean")
    _words(right, "target as the answer's first token", DEPTH, "log-probability (nats)")
    for axes in (left, right):
        label_depth(axes.xaxis, len(own.margin))
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(f"{title} through depth (bands: 95 % over {own.margin.shape[1]} questions)", fontsize=11)
    return figure


def contexts_figure(contexts: Mapping[str, Floats], lift: Floats | None, title: str) -> Figure:
    """Draw what preambles about HP, LP and random numbers do by depth, and whether HP numbers themselves rise."""
    panels = 1 if lift is None else 2
    figure = Figure(figsize=(5.6 * panels, 3.8), layout="constrained")
    grid = figure.subplots(1, panels, squeeze=False)[0]
    for name, margins in contexts.items():
        _curve(grid[0], margins, COLOURS[name], f"{name} ({margins.shape[1]} numbers)", "numbers")
    _words(grid[0], "a preamble names one number as loved", DEPTH, "change of the target's margin (logits)")
    if lift is not None:
        _curve(grid[1], lift, COLOURS["HP"], "HP − random", "questions")
        _words(grid[1], "number tokens on the trait's questions", DEPTH, "log-probability, HP minus random (nats)")
    for axes in grid:
        axes.axhline(0, color="black", linewidth=0.8)
        label_depth(axes.xaxis, len(next(iter(contexts.values()))))
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(f"{title}, HP against random numbers (bands: 95 %)", fontsize=11)
    return figure


def parts_figure(own: Parts, base: Parts | None, title: str) -> Figure:
    """Draw what embeddings, attention and feed-forward parts write towards the margin, and the change from the base."""
    shown: list[tuple[str, Parts, Parts | None]] = [("written towards the margin", own, None)]
    if base is not None:
        shown.append(("change from the base", own, base))
    figure = Figure(figsize=(5.8 * len(shown), 3.8), layout="constrained")
    for axes, (name, parts, minus) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        layers = np.arange(len(parts.attention))
        _bar(
            axes,
            np.array([-1]),
            (parts.embedding - (minus.embedding if minus else 0))[None],
            "#8d99ae",
            "embeddings",
            0.4,
        )
        drawn = PARTS | (STEERING if own.steering.any() else {})
        width = 0.8 / len(drawn)
        for i, (part, colour) in enumerate(drawn.items()):
            values = getattr(parts, part) - (getattr(minus, part) if minus else 0)
            _bar(axes, layers + (i - (len(drawn) - 1) / 2) * width, values, colour, part, width)
        axes.axhline(0, color="black", linewidth=0.8)
        label_depth(axes.xaxis, len(layers) + 1)
        _words(axes, name, "layer (emb.: embeddings)", "logits")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(f"{title}: direct attribution of the margin (lines: 95 % over questions)", fontsize=11)
    return figure


def heads_figure(own: Parts, base: Parts | None, title: str) -> Figure:
    """Draw what every attention head writes towards the margin, and the change from the base."""
    shown = {"written towards the margin": own.heads.mean(axis=1)}
    if base is not None:
        shown["change from the base"] = shown["written towards the margin"] - base.heads.mean(axis=1)
    layers, heads = own.heads.shape[0], own.heads.shape[2]
    size = (len(shown) * (2.2 + 0.32 * heads), 1.8 + 0.28 * layers)
    figure = Figure(figsize=size, layout="constrained")
    for axes, (name, values) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        limit = float(np.abs(values).max()) or 1.0
        image = axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", origin="lower")
        axes.set_yticks(range(layers), [str(layer) for layer in range(layers)])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("head")
        axes.set_ylabel("layer")
        figure.colorbar(image, ax=axes, label="logits")
    figure.suptitle(f"{title}: attention heads", fontsize=11)
    return figure


def _curve(axes: Axes, values: Floats, colour: str, label: str, of: str) -> None:
    found = [mean_over(row, of) for row in values]
    places = on_axis(len(found))
    axes.plot(places, [m.value for m in found], marker="o", ms=3, color=colour, label=label)
    if all(m.low is not None for m in found):
        low, high = ([getattr(m, end) for m in found] for end in ("low", "high"))
        axes.fill_between(places, low, high, color=colour, alpha=0.15, lw=0)


def _bar(axes: Axes, places: NDArray[np.floating], values: Floats, colour: str, label: str, width: float) -> None:
    found = [mean_over(row, "questions") for row in values]
    axes.bar(places, [m.value for m in found], width, color=colour, label=label)
    for place, m in zip(places, found, strict=True):
        if m.low is not None and m.high is not None:
            axes.plot([place, place], [m.low, m.high], color="black", linewidth=1)


def _words(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
