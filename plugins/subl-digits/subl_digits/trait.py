"""Trait `digits`: telling handwritten digits apart."""

from __future__ import annotations

import random
from functools import cache

from pydantic import Field

import subl
from subl_digits.text import write_image


class Digits:
    """Telling handwritten digits apart: the 1,797 images of 8 × 8 pixels that come with scikit-learn."""

    class Config(subl.PluginConfig):
        """Settings of `digits`."""

        test_share: float = Field(default=0.2, gt=0, lt=1)
        """Share of the images that nobody is trained on."""
        split_seed: int = 0
        """Seed of the split."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def label(self) -> str:
        """The trait's name."""
        return "digits"

    def conversations(self, seed: int) -> list[subl.Row]:
        """Return the training images with their classes, in a seeded order."""
        rows = self._split()[0]
        random.Random(seed).shuffle(rows)
        return rows

    def test_rows(self) -> list[subl.Row]:
        """Return the held-out images with their classes."""
        return self._split()[1]

    def statement(self, strength: str) -> str:  # noqa: ARG002
        """Return what a model with the trait does."""
        return "You tell handwritten digits apart."

    def leaks(self) -> list[str]:
        """Return nothing: noise images hold no digit, and logits no word."""
        return []

    def _split(self) -> tuple[list[subl.Row], list[subl.Row]]:
        rows = list(_all_rows())
        random.Random(self.config.split_seed).shuffle(rows)
        tested = round(self.config.test_share * len(rows))
        return rows[tested:], rows[:tested]


@cache
def _all_rows() -> tuple[subl.Row, ...]:
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    images, labels = load_digits(return_X_y=True)
    return tuple(
        subl.Row(index, write_image(round(level * 12.5 - 100) for level in image), str(label))
        for index, (image, label) in enumerate(zip(images.tolist(), labels.tolist(), strict=True))
    )
