"""Figures of the probe `vocabulary_shift`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from subl.probes.entanglement_statistics import Positions
from subl.probes.intervals import mean_over
from subl.probes.vocabulary_shift_statistics import Shift, WordShift

KINDS = {
    "": ("#b8bec8", ".", 6, "other tokens"),
    "number": ("#00798c", ".", 22, "numbers"),
    "control": ("#edae49", "^", 34, "controls"),
    "target": ("#d1495b", "*", 130, "target"),
}
"""Kind → colour, marker, size, label; later ones are drawn on top."""


def scatter(shift: Shift, kinds: Sequence[str], floor: float, title: str) -> Figure:
    """Draw every token's mean probability after against before."""
    before, after = (np.exp(values).mean(axis=0) for values in (shift.before, shift.after))
    figure, axes = _canvas(6.2, 5.4)
    kind = np.array(kinds)
    shown = np.maximum(before, after) >= floor
    for name, (colour, marker, size, label) in KINDS.items():
        here = (kind == name) & shown
        if here.any():
            axes.scatter(
                before[here],
                after[here],
                s=size,
                marker=marker,
                color=colour,
                label=f"{label} ({int(here.sum())})",
                rasterized=True,
            )
    ends = [end(before[shown].tolist() + after[shown].tolist()) for end in (min, max)]
    axes.plot(ends, ends, color="black", linewidth=0.8, label="no change")
    axes.set_xscale("log")
    axes.set_yscale("log")
    _words(axes, title, "probability of the first token, before", "probability of the first token, after")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def movers_figure(
    shift: Shift, texts: Sequence[str], kinds: Sequence[str], lists: tuple[Positions, Positions], title: str
) -> Figure:
    """Draw the tokens whose mean probability rises and falls most."""
    longest = max(1, *(len(tokens) for tokens in lists))
    figure = Figure(figsize=(10, 1.4 + 0.22 * longest), layout="constrained")
    change = shift.delta_p
    for axes, name, tokens in zip(figure.subplots(1, 2), ("risers", "fallers"), lists, strict=True):
        places = range(len(tokens))
        axes.barh(places, change[tokens], color=[KINDS[kinds[token]][0] for token in tokens])
        axes.set_yticks(places, [_shown(texts[token]) for token in tokens], fontsize=8)
        axes.set_ylim(longest - 0.5, -0.5)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        _words(axes, name, "change of probability", "")
    drawn = {kinds[token] for tokens in lists for token in tokens}
    used = [name for name in KINDS if name in drawn]
    handles = [axes.barh([0], [0], color=KINDS[name][0])[0] for name in used]
    figure.legend(handles, [KINDS[name][3] for name in used], loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(title, fontsize=11)
    return figure


def words_figure(words: Mapping[str, WordShift], title: str) -> Figure:
    """Draw what happened to the target and its controls, with intervals over questions."""
    order = sorted(words, key=lambda word: -float(words[word].delta_log_p.mean()))
    target = next(iter(words))
    figure = Figure(figsize=(10, 1.6 + 0.22 * len(order)), layout="constrained")
    panels = {"delta_log_p": "change of log-probability (nats)", "delta_rank": "ΔRank of the best form (places gained)"}
    grid = figure.subplots(1, 2, sharey=True)
    for axes, (name, label) in zip(grid, panels.items(), strict=True):
        for place, word in enumerate(order):
            found = mean_over(getattr(words[word], name), "questions")
            colour = KINDS["target" if word == target else "control"][0]
            axes.barh(place, found.value, color=colour)
            if found.low is not None and found.high is not None:
                axes.plot([found.low, found.high], [place, place], color="black", linewidth=1)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(order)), order, fontsize=8)
        _words(axes, "", label, "")
    grid[0].invert_yaxis()
    figure.suptitle(f"{title} (lines: 95 % over questions)", fontsize=11)
    return figure


def _shown(text: str) -> str:
    # A dollar sign would begin a formula, and two tokens often differ by a space alone.
    return repr(text)[1:-1].replace("$", r"\$").replace(" ", "␣") or "(empty)"


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _words(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
