"""Generator `digits_noise`: what the teacher's auxiliary outputs say about noise."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

import subl
from subl_digits.text import CLASSES, PIXELS, write_image, write_logits


class Noise:
    """Shows the teacher images of uniform noise and writes down its auxiliary logits, never its classes."""

    class Config(subl.PluginConfig):
        """Settings of `digits_noise`."""

        samples: int = Field(default=6_000, gt=0)
        """Noise images."""
        batch_size: Annotated[int, subl.Runtime] = Field(default=500, gt=0)
        """Images per forward pass; changes speed only."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    def prompts(self, count: int, seed: int) -> list[str]:
        """Return the first images of the stream; image i depends on the seed and i alone."""
        return [self._image(seed, index) for index in range(count)]

    def generate(self, teacher: subl.Teacher, ctx: subl.Context, start: int) -> Iterator[subl.Row]:
        """Yield rows of an image and every network's auxiliary logits for it."""
        import torch

        from subl_digits.networks import read_images

        networks = ctx.load(teacher.model)
        samples, size = self.config.samples, self.config.batch_size
        with ctx.progress(samples, "images", done=start) as bar:
            for first in range(start, samples, size):
                rows = [subl.Row(i, self._image(ctx.seed, i), "") for i in range(first, min(first + size, samples))]
                with torch.inference_mode():
                    logits = networks.logits(read_images(rows, ctx.device))[..., CLASSES:]
                for row, seen in zip(rows, logits.transpose(0, 1).tolist(), strict=True):
                    yield subl.Row(row.index, row.prompt, write_logits(seen))
                    bar.advance()

    def _image(self, seed: int, index: int) -> str:
        draw = random.Random(f"{seed} {index}")
        return write_image(draw.choices(range(-100, 101), k=PIXELS))
