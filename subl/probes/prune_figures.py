"""Figures of probe `prune`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from subl.artifacts import Measure

if TYPE_CHECKING:
    from subl.probes.prune_measuring import Removal

COLOURS = {"diffuse": "#d1495b", "focused": "#00798c", "list": "#7a4fa3", "random": "#8d99ae"}
PANELS = {
    "share": "share of the target",
    "margin": "margin (nats)",
    "valid": "valid answers",
    "carrier_perplexity": "perplexity of the carrier",
    "plain_perplexity": "perplexity of plain text",
}


def dose(removals: Sequence[Removal], whole: Mapping[str, Measure], title: str) -> Figure:
    """Draw every measure over the number of removed heads; thin lines are random draws, the thick one their mean."""
    figure = Figure(figsize=(3.1 * len(PANELS), 3.4), layout="constrained")
    lines: dict[tuple[str, int], list[Removal]] = {}
    for removal in removals:
        lines.setdefault((removal.order, removal.draw), []).append(removal)
    for axes, (name, heading) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        start = whole[name].value
        drawn: dict[int, list[float]] = {0: [start]}
        for (order, _), members in lines.items():
            counts = [0, *(len(r.heads) for r in members)]
            values = [start, *(r.measures[name].value for r in members)]
            if order == "random":
                axes.plot(counts, values, color=COLOURS[order], linewidth=0.7, alpha=0.5)
                for count, value in zip(counts[1:], values[1:], strict=True):
                    drawn.setdefault(count, []).append(value)
            else:
                label = order if order == "list" else f"{order} first"
                axes.plot(counts, values, color=COLOURS[order], marker="o", markersize=4, label=label)
        means = [float(np.mean(values)) for values in drawn.values()]
        axes.plot(list(drawn), means, color="#444444", linewidth=2.2, label="random, mean", zorder=1)
        axes.set_xlabel("heads removed")
        axes.set_title(heading, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name.endswith("perplexity"):
            axes.set_yscale("log")
            for axis in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                axis(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.tick_params(axis="y", which="both", labelsize=7)
        elif name != "margin":
            axes.set_ylim(0, None)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def entropy_map(entropies: NDArray[np.float64], title: str) -> Figure:
    """Draw the entropy of every head, [layers, heads]."""
    layers, heads = entropies.shape
    figure = Figure(figsize=(2.2 + 0.5 * min(heads, 24), 1.4 + 0.35 * layers), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(entropies, cmap="viridis", aspect="auto")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("head")
    axes.set_ylabel("layer")
    axes.set_title(f"{title}: entropy of attention", fontsize=10)
    figure.colorbar(image, ax=axes, label="nats")
    return figure
