"""From a finished training to the student that it made."""

from __future__ import annotations

from dataclasses import replace

from subl.artifacts import ModelRef, Student
from subl.context import Context
from subl.models.training import Trained, derived


def student_of(base: ModelRef, trained: Trained, ctx: Context, rendering: str) -> Student:
    """Return the student with its kept earlier states, the first one first.

    Args:
        base: What the training started from.
        trained: What it left.
        ctx: The stage's context.
        rendering: Digest of the chat rendering that it was trained with.
    """
    earlier = tuple(
        Student(derived(base, replace(trained, folder=folder), ctx, rendering), base, updates)
        for updates, folder in trained.kept
    )
    return Student(derived(base, trained, ctx, rendering), base, trained.updates, earlier)
