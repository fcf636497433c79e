"""Figures of probe `attention`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

Floats = NDArray[np.float64]
COLOURS = {"": "#2f6690", "trait_": "#d1495b"}
NAMES = {"": "carrier", "trait_": "trait questions"}
SHOWN = 4
"""Heads in a picture of maps."""


def heat_map(divergence: Floats, layers: Sequence[tuple[int, int]], title: str) -> Figure:
    """Draw the divergence of every layer and head, (layers, heads)."""
    figure = Figure(figsize=(1.6 + 0.55 * divergence.shape[1], 1.4 + 0.35 * divergence.shape[0]), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(divergence, cmap="viridis", vmin=0, aspect="auto")
    axes.set_xticks(range(divergence.shape[1]))
    axes.set_yticks(range(len(layers)), [f"{own} ← {theirs}" for own, theirs in layers])
    axes.set_xlabel("head")
    axes.set_ylabel("layer ← teacher's layer")
    axes.set_title(title, fontsize=10)
    figure.colorbar(image, ax=axes, label="KL (nats per row)")
    return figure


def layer_curve(maps: Mapping[str, Floats], layers: Sequence[tuple[int, int]]) -> Figure:
    """Draw the mean over texts and heads by layer, with the spread over texts; maps are (texts, layers, heads)."""
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    places = range(len(layers))
    for name, values in maps.items():
        by_text = values.mean(2)
        mean, spread = by_text.mean(0), by_text.std(0)
        axes.plot(places, mean, marker="o", color=COLOURS[name], label=NAMES[name])
        axes.fill_between(places, np.maximum(mean - spread, 0), mean + spread, color=COLOURS[name], alpha=0.15, lw=0)
    axes.set_xticks(places, [str(own) for own, _ in layers])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("layer (band: standard deviation over texts)")
    axes.set_ylabel("KL (nats per row)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def map_pictures(teacher: Floats, model: Floats, title: str) -> Figure:
    """Draw some heads' maps of one text, (heads, rows, keys): the teacher's above, the model's below."""
    heads = min(SHOWN, teacher.shape[0])
    figure = Figure(figsize=(1 + 2.2 * heads, 4.2), layout="constrained")
    grid = figure.subplots(2, heads, squeeze=False, sharex=True, sharey=True)
    for row, (name, maps) in enumerate((("teacher, squeezed", teacher), ("model", model))):
        for head in range(heads):
            axes = grid[row, head]
            axes.imshow(maps[head], cmap="magma", vmin=0, vmax=1, aspect="auto")
            axes.set_title(f"head {head}" if row == 0 else "", fontsize=9)
            axes.set_ylabel(name if head == 0 else "")
            axes.set_xlabel("piece of text read" if row == 1 else "")
            axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle(title, fontsize=10)
    return figure
