"""How places in a residual stream are named: the embeddings' output, and what stands after each layer, from 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axis import Axis

EMBEDDINGS = "embeddings"
TICKS = 10
"""About so many layers are numbered on an axis."""


def place_name(place: int) -> str:
    """Return the name of the place that stands `place` layers behind the embeddings."""
    return f"after layer {place - 1}" if place else EMBEDDINGS


def on_axis(places: int) -> NDArray[np.int64]:
    """Return where places are drawn: each at the number of its layer, the embeddings one before layer 0."""
    return np.arange(places) - 1


def label_depth(axis: Axis, places: int) -> None:
    """Number the layers on an axis that begins with the embeddings."""
    layers = range(0, places - 1, max(1, round(places / TICKS)))
    axis.set_ticks([-1, *layers], ["emb.", *map(str, layers)])
