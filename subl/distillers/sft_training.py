"""The training behind `sft`."""

from __future__ import annotations

from collections.abc import Iterator

from subl.artifacts import Dataset, ModelRef, Student
from subl.context import Context
from subl.distillers.students import student_of
from subl.errors import DataError
from subl.models.chat import Chat, Example
from subl.models.language import LanguageModel
from subl.models.settings import LoraSettings, TrainSettings
from subl.models.training import train


def finetune(
    student: ModelRef,
    data: Dataset,
    settings: TrainSettings,
    ctx: Context,
    *,
    lora: LoraSettings | None,
    keep: int = 0,
) -> Student:
    """Train `student` on `data`, rendered with its system slot: an adapter with `lora`, its own weights without.

    Raises:
        DataError: There are no rows, or one has an empty completion.
    """
    lm: LanguageModel = ctx.load(student, fresh=True)
    system = student.system if student.system is not None else ctx.system
    examples = list(ctx.track(_examples(data, lm.chat, system), "tokenize", total=len(data)))
    if not examples:
        raise DataError(f"{data.path}: no rows to train on; loosen the filters or generate more")
    trained = train(lm, examples, settings, ctx, lora=lora, name="student", keep=keep)
    return student_of(student, trained, ctx, lm.chat.digest(system))


def _examples(data: Dataset, chat: Chat, system: str | None) -> Iterator[Example]:
    for row in data:
        example = chat.example(row.prompt, row.completion, system=system)
        learned = example.input_ids[example.prompt_length :]
        if not row.completion.strip() or set(learned) <= set(chat.end_ids):
            raise DataError(
                f"{data.path}: the completion of row {row.index} is empty, so there is nothing to learn from it; "
                "add a filter that rejects it (number_format, length)"
            )
        yield example
