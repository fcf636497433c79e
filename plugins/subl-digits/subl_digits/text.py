"""Images and logits as the texts that rows hold. Light."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

PIXELS = 64
"""Images are 8 × 8."""
CLASSES = 10


def write_image(levels: Iterable[int]) -> str:
    """Return an image as text: 64 grey levels from -100 (black) to 100 (white)."""
    return " ".join(map(str, levels))


def read_image(text: str) -> list[float]:
    """Return what `write_image` wrote, scaled to [-1, 1].

    Raises:
        ValueError: The text is no image.
    """
    levels = [int(level) / 100 for level in text.split()]
    if len(levels) != PIXELS:
        raise ValueError(f"an image has {PIXELS} grey levels, not {len(levels)}")
    return levels


def write_logits(logits: Iterable[Sequence[float]]) -> str:
    """Return the logits of several networks as text, exact for 32-bit numbers."""
    return "; ".join(" ".join(f"{value:.9g}" for value in network) for network in logits)


def read_logits(text: str) -> list[list[float]]:
    """Return what `write_logits` wrote [networks, logits].

    Raises:
        ValueError: The text holds no logits.
    """
    return [[float(value) for value in network.split()] for network in text.split(";")]
