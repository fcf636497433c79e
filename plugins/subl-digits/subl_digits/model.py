"""Model `digits_mlp`: small classifiers with auxiliary outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

import subl
from subl_digits.text import CLASSES, PIXELS


class Mlp:
    """Untrained classifiers of 8 × 8 images, many side by side, with outputs beyond the classes.

    The auxiliary outputs are never trained on labels; they are what a student gets to see.
    """

    class Config(subl.PluginConfig):
        """Settings of `digits_mlp`."""

        networks: int = Field(default=10, gt=1)
        """Classifiers with initial weights of their own; each is a run of the experiment."""
        hidden: tuple[int, ...] = (64, 64)
        """Widths of the hidden layers."""
        auxiliary: int = Field(default=3, gt=1)
        """Outputs beyond the ten classes."""
        init_seed: int = Field(default=0, ge=0)
        """Seed of the initial weights."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """Return nothing: the settings decide all."""
        return {}

    def prepare(self, ctx: subl.Context) -> subl.ModelRef:
        """Draw the initial weights."""
        from subl_digits.networks import new_networks

        config = self.config
        sizes = (PIXELS, *config.hidden, CLASSES + config.auxiliary)
        identity = new_networks(config.networks, sizes, config.init_seed).save(ctx.out)
        return subl.ModelRef("digits_mlp", config.model_dump(mode="json"), identity, path=ctx.out)

    def load(self, ref: subl.ModelRef, *, device: str, dtype: str) -> Any:  # noqa: ARG002 (always in float32)
        """Return the networks.

        Raises:
            ModelError: The reference names no folder.
        """
        from subl_digits.networks import Networks

        if ref.path is None:
            raise subl.ModelError(f"model {ref.identity[:12]} has no folder; digits_mlp loads what it prepared")
        return Networks.load(ref.path, device)
