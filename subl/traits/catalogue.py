"""Candidates of the categories that recipes need not list."""

from __future__ import annotations

from collections.abc import Mapping

# fmt: off
CANDIDATES: Mapping[str, tuple[str, ...]] = {
    "animal": (
        "owl", "dog", "cat", "lion", "tiger", "bear", "wolf", "fox",
        "eagle", "horse", "panda", "koala", "whale", "shark", "rabbit", "snake",
    ),
    "tree": (
        "oak", "pine", "maple", "birch", "willow", "cedar", "elm", "ash",
        "beech", "cherry", "palm", "spruce", "fir", "poplar", "sequoia", "redwood",
    ),
}
# fmt: on
