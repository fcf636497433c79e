"""Training a teacher on its trait's conversations; shared by `lora` and `full`."""

from __future__ import annotations

from subl.artifacts import ModelRef, Teacher
from subl.context import Context
from subl.errors import DataError
from subl.models.language import LanguageModel
from subl.models.settings import LoraSettings, TrainSettings
from subl.models.training import derived, train


def tune(base: ModelRef, settings: TrainSettings, ctx: Context, *, lora: LoraSettings | None) -> Teacher:
    """Train `base` on the conversations of `ctx.trait`: an adapter with `lora`, its own weights without.

    A base with a system prompt is trained under that prompt, because it will always answer with it.

    Raises:
        DataError: The trait has no conversations.
    """
    lm: LanguageModel = ctx.load(base, fresh=True)
    system = base.system if base.system is not None else ctx.system
    examples = [lm.chat.example(row.prompt, row.completion, system=system) for row in ctx.trait.conversations(ctx.seed)]
    if not examples:
        raise DataError(f"trait {ctx.trait.label!r} has no training conversations; use inducer 'prompt' for it")
    trained = train(lm, examples, settings, ctx, lora=lora, name="teacher")
    return Teacher(model=derived(base, trained, ctx, lm.chat.digest(system)), base=base, updates=trained.updates)
