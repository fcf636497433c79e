"""Which layers and heads of two models can be compared, from their numbers alone. Light: `validate` uses it.

Layers are matched by position, heads by squeezing the side that has more to the number of the other.
"""

from __future__ import annotations

from subl.artifacts import Shape
from subl.errors import ModelError
from subl.matching.map_settings import LayerSettings
from subl.matching.squeezing_plan import HeadPlan, plan_heads

NO_HEADS_TO_SHUFFLE = "shuffle_heads needs at least two squeezed heads, and there is one; remove it"

Layers = tuple[tuple[int, int], ...]
"""Pairs of a student layer and the teacher layer that teaches it."""


def uniform_layers(student: int, teacher: int) -> tuple[int, ...]:
    """Return the teacher layer for each student layer, from 0: evenly spread, last on last (as TinyBERT does)."""
    return tuple(-(-layer * teacher // student) - 1 for layer in range(1, student + 1))


def pair_layers(settings: LayerSettings, teacher: Shape, student: Shape) -> Layers:
    """Return which layer of the teacher teaches which layer of the student.

    Raises:
        ModelError: A layer does not exist; names the setting.
    """
    for fault in layer_faults(settings, teacher, student).values():
        raise ModelError(fault)
    own = settings.student_layers or tuple(range(student.layers))
    theirs = settings.teacher_layers
    if theirs is None:
        spread = uniform_layers(student.layers, teacher.layers)
        theirs = tuple(spread[layer] for layer in own)
    return tuple(zip(own, theirs, strict=True))


def plan_both(settings: LayerSettings, teacher: Shape, student: Shape) -> tuple[HeadPlan, HeadPlan]:
    """Return how the teacher's and the student's heads are squeezed: to the smaller of their numbers.

    Raises:
        ModelError: Heads cannot be squeezed as asked.
    """
    target = min(teacher.heads, student.heads)
    theirs, own = (
        plan_heads(shape.heads, target, kv_heads=shape.kv_heads, merge=settings.merge) for shape in (teacher, student)
    )
    return theirs, own


def layer_faults(settings: LayerSettings, teacher: Shape, student: Shape) -> dict[str, str]:
    """Return, by setting, what names a layer that does not exist."""
    found = {}
    for side, shape in (("student", student), ("teacher", teacher)):
        last = max(getattr(settings, f"{side}_layers") or (0,))
        if last >= shape.layers:
            found[f"{side}_layers"] = (
                f"{side}_layers asks for layer {last}, but the {side} has {shape.layers}, 0 to {shape.layers - 1}"
            )
    return found


def head_faults(settings: LayerSettings, teacher: Shape, student: Shape) -> dict[str, str]:
    """Return, by setting, why heads cannot be squeezed as asked."""
    try:
        plan_both(settings, teacher, student)
    except ModelError as error:
        return {"merge": str(error)}
    return {}
