"""A filter whose module imports a framework as soon as it is named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import subl


class Heavy:
    """Keeps everything."""

    class Config(subl.PluginConfig):
        """Nothing to set."""

    version = 1

    def __init__(self, config: Any) -> None:
        self.config = config

    def reject(self, rows: Sequence[subl.Row], ctx: subl.Context) -> list[str | None]:
        return [None for _ in np.arange(len(rows))]
