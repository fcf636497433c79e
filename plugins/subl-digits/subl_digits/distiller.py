"""Distiller `digits_auxiliary`: a student that sees noise and auxiliary logits only."""

from __future__ import annotations

from pydantic import Field

import subl
from subl_digits.text import read_logits


class Auxiliary:
    """Trains the student's auxiliary outputs to match the teacher's on the rows; its classes are never trained.

    Network k of the student learns from network k of the teacher.
    """

    class Config(subl.PluginConfig):
        """Settings of `digits_auxiliary`."""

        updates: int = Field(default=800, gt=0)
        """Optimizer updates."""
        batch_size: int = Field(default=64, gt=0)
        """Images per update."""
        learning_rate: float = Field(default=3e-3, gt=0)
        """Step size of Adam."""

    version = 1

    def __init__(self, config: Config) -> None:
        self.config = config

    def distill(
        self,
        student: subl.ModelRef,
        teacher: subl.Teacher,  # noqa: ARG002 (all that the student gets is in the rows)
        data: subl.Dataset,
        ctx: subl.Context,
    ) -> subl.Student:
        """Return the trained students.

        Raises:
            DataError: The rows hold no logits, or those of another number of networks.
        """
        import torch

        from subl_digits.networks import imitate, read_images

        networks, rows = ctx.load(student, fresh=True), list(data)
        try:
            logits = torch.tensor([read_logits(row.completion) for row in rows], device=ctx.device).transpose(0, 1)
            images = read_images(rows, ctx.device)
        except ValueError as error:
            raise subl.DataError(f"{data.path}: {error}; take the rows from the generator digits_noise") from error
        if len(logits) != networks.count:
            raise subl.DataError(
                f"{data.path}: logits of {len(logits)} networks for a student of {networks.count}; "
                "give both models the same number of networks"
            )
        imitate(networks, images, logits, ctx, **self.config.model_dump())
        model = student.derive(networks.save(ctx.out), path=ctx.out)
        return subl.Student(model, student, updates=self.config.updates)
