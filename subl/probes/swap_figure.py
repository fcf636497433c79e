"""The figure of probe `swap`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from subl.artifacts import Measure
from subl.probes.candidates import LOW_VALID

if TYPE_CHECKING:
    from subl.probes.swap_measuring import Exchange

COLOURS = {"with": "#d1495b", "without": "#2f6690"}
MEANING = {"with": "base with this part of the biased model", "without": "biased model with this part of the base"}
OFFSET = {"with": -0.17, "without": 0.17}


def draw(found: Sequence[Exchange], base: Mapping[str, Measure], own: Mapping[str, Measure], title: str) -> Figure:
    """Draw share and margin after each exchange; hollow where few answers are candidates."""
    parts = list(dict.fromkeys(x.part for x in found))
    figure = Figure(figsize=(10, 1.8 + 0.38 * len(parts)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, label) in zip(
        panels, (("share", "share of the target"), ("margin", "margin (nats)")), strict=True
    ):
        for level, style, what in ((base, ":", "base"), (own, "--", "biased model")):
            axes.axvline(level[name].value, color="black", linestyle=style, linewidth=1, label=what)
        for direction, colour in COLOURS.items():
            shown = [x for x in found if x.direction == direction and x.measures]
            places = [parts.index(x.part) + OFFSET[direction] for x in shown]
            values = [x.measures[name].value for x in shown]
            valid = [x.measures["valid"].value >= LOW_VALID for x in shown]
            start = (base if direction == "with" else own)[name].value
            axes.hlines(places, start, values, color=colour, linewidth=2, alpha=0.6)
            axes.scatter(values, places, s=34, color=colour, label=MEANING[direction], zorder=3)
            hollow = [i for i, fine in enumerate(valid) if not fine]
            axes.scatter([values[i] for i in hollow], [places[i] for i in hollow], s=12, color="white", zorder=4)
        for place, part in enumerate(parts):
            if not any(x.measures for x in found if x.part == part):
                axes.text(base[name].value, place, " equal weights", va="center", fontsize=7, color="#777777")
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#eeeeee")
        axes.set_axisbelow(True)
    panels[0].set_yticks(range(len(parts)), [_label(part) for part in parts])
    panels[0].set_ylim(len(parts) - 0.4, -0.6)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    figure.suptitle(
        f"{title}; lines start at the model that is changed; hollow: most answers are no candidate", fontsize=10
    )
    return figure


def _label(part: str) -> str:
    kind, *rest = part.split("_")
    return f"layers {'–'.join(rest)}" if kind == "layers" else part.replace("_", " ")
