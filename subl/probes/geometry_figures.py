"""Figures of the probe `geometry`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subl.probes.entanglement_effects import RANDOM
from subl.probes.entanglement_figures import COLOURS
from subl.probes.entanglement_statistics import Floats
from subl.probes.geometry_statistics import principal_axes
from subl.probes.geometry_tables import Similarities
from subl.probes.number_sets import NumberSetsOf

TARGET, CONTROL = "#6a4c93", "#8d99ae"
DEPTHS = {"HP": 1, "LP": 2, "UNCH": 3}


def distributions(cosines: Sequence[Similarities], sets: NumberSetsOf, title: str) -> Figure:
    """Draw the cosines of all numbers with the target, by variant, with the sets marked below."""
    figure = Figure(figsize=(4.2 * len(cosines), 3.6), layout="constrained")
    for axes, one in zip(figure.subplots(1, len(cosines)), cosines, strict=True):
        axes.hist(one.own, bins=list(np.histogram_bin_edges(one.own, "auto")), color=COLOURS[RANDOM])
        axes.set_title(f"{one.variant}: HP against others p = {one.sets['HP'][0].p:.2g}", fontsize=10)
        axes.set_xlabel(f"cosine with {sets.one.targets[0]}")
        axes.set_ylabel("numbers")
        axes.tick_params(axis="x", pad=14)
        axes.spines[["top", "right"]].set_visible(False)
        for name, members in sets.one.sets.named().items():
            axes.axvline(one.own[members].mean(), color=COLOURS[name], linestyle=":", linewidth=1.2)
            height = np.full(len(members), -0.02 * DEPTHS[name])
            axes.plot(
                one.own[members],
                height,
                "|",
                color=COLOURS[name],
                label=f"{name} (dotted: mean)",
                transform=axes.get_xaxis_transform(),
                clip_on=False,
            )
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(f"{title}: all {len(sets.one.numbers)} numbers", fontsize=11)
    return figure


def picture(
    shown: Mapping[str, Floats], sets: NumberSetsOf, random: int, rng: np.random.Generator, title: str
) -> Figure:
    """Draw words and numbers, whose rows are in this order, on their two widest directions, centred and whitened."""
    words, members = sets.one.targets, sets.one.sets.named()
    rest = np.array([i for i, name in enumerate(sets.set_names()) if not name], dtype=np.int64)
    groups = {RANDOM: np.sort(rng.choice(rest, min(random, len(rest)), replace=False)), **members}
    order = np.concatenate(list(groups.values())).astype(int)
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    for axes, variant in zip(figure.subplots(1, 2), ("centred", "whitened"), strict=True):
        rows = np.concatenate([shown[variant][: len(words)], shown[variant][len(words) + order]])
        places, share = principal_axes(rows)
        own, numbers = np.split(places, [len(words)])
        start = 0
        for name, positions in groups.items():
            here = numbers[start : start + len(positions)]
            start += len(positions)
            axes.scatter(here[:, 0], here[:, 1], s=16, color=COLOURS[name], label=f"{name} numbers")
            if name in ("HP", "LP"):
                _written(axes, here, [sets.one.numbers[i] for i in positions], COLOURS[name])
        axes.scatter(own[1:, 0], own[1:, 1], s=22, marker="^", color=CONTROL, label="controls")
        axes.scatter(own[:1, 0], own[:1, 1], s=90, marker="*", color=TARGET, label=words[0])
        _written(axes, own[1:], words[1:], CONTROL)
        _written(axes, own[:1], words[:1], TARGET)
        axes.set_title(variant, fontsize=10)
        axes.set_xlabel(f"first principal component ({share[0]:.0%} of variance)")
        axes.set_ylabel(f"second principal component ({share[1]:.0%})")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=11)
    return figure


def _written(axes: Axes, places: Floats, texts: Sequence[str], colour: str) -> None:
    for (x, y), text in zip(places, texts, strict=True):
        axes.annotate(text, (x, y), xytext=(3, 3), textcoords="offset points", fontsize=7, color=colour)
