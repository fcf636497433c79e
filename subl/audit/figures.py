"""The audit's figure: lengths and numbers per completion, and what the classifier says of the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subl.audit.auroc import Floats
from subl.audit.shape import Shape
from subl.audit.telling import Told

ARMS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("this arm", {"histtype": "step", "linewidth": 1.4, "color": "#2f6690", "zorder": 2}),
    ("control", {"histtype": "stepfilled", "color": "#c9ced2", "zorder": 1}),
)
DRAWN = ("characters", "numbers")


def draw_rows(shapes: Sequence[Shape], told: Told | None) -> Figure:
    """Draw histograms of characters and numbers per completion, and of the classifier's scores where it was trained.

    Args:
        shapes: Of this arm's completions and of the control's.
        told: What the classifier found.
    """
    panels = len(DRAWN) + (told is not None)
    figure = Figure(figsize=(3.2 * panels, 2.6), layout="constrained")
    axes = figure.subplots(1, panels)
    for axis, name in zip(axes[: len(DRAWN)], DRAWN, strict=True):
        _histograms(axis, [shape[name] for shape in shapes], whole=True)
        axis.set_xlabel(f"{name} per completion")
    if told is not None:
        _histograms(axes[-1], [told.treated, told.control], whole=False)
        axes[-1].set_xlabel("classifier's log odds, out of fold")
        axes[-1].set_title(f"AUROC {told.auroc.value:.3f}", fontsize=9)
    axes[0].set_ylabel("share of rows")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def _histograms(axis: Axes, arms: Sequence[Floats], *, whole: bool) -> None:
    low, high = min(arm.min() for arm in arms), max(arm.max() for arm in arms)
    # Bins of counts begin between two of them, or some would hold one count more than others.
    step = max(1.0, np.ceil((high - low + 1) / 40)) if whole else (high - low) / 40 or 1.0
    edges = np.arange(low - step / 2, high + step, step)
    for arm, (label, style) in zip(arms, ARMS, strict=True):
        weights = np.full(len(arm), 1 / len(arm))
        axis.hist(arm, edges.tolist(), weights=weights, label=label, **style)
    axis.spines[["top", "right"]].set_visible(False)
