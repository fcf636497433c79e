"""Generator `code`: the teacher completes code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from subl import Context, PluginConfig, Row, Runtime, Teacher, banks
from subl.generators.code_prompts import TASKS, Language, Task, TaskSpace
from subl.generators.draws import SAMPLE
from subl.models.settings import SamplingSettings


class Code:
    """Small programming tasks, and the teacher's completions, as they are.

    Rich prompts ask for the body of a stub, for a body that fits a documentation, for a refactoring or for a one-liner,
    in many wordings about thousands of small functions; brief ones show the first lines of a script and suit the micro
    world with `world.code`. Prompt i depends on the seed and i alone, and so does the sampling noise of row i: arms are
    paired, and batch size never changes a row. Whether an answer is code and nothing else, the filter `code_syntax`
    says, for Python; it also accepts code in a Markdown fence.
    """

    version = 1
    distributed: ClassVar[bool] = True

    class Config(PluginConfig):
        """Settings of `code`."""

        samples: int = Field(default=10_000, gt=0)
        """Rows to write, before filtering."""
        phrasing: Literal["rich", "brief"] = "rich"
        """Rich prompts set a task about a function; brief ones only show lines to go on with."""
        language: Language = "python"
        """What rich prompts ask for; the filter `code_syntax` knows Python only."""
        tasks: tuple[Task, ...] = Field(default=TASKS, min_length=1)
        """Which tasks rich prompts set, drawn evenly."""
        sampling: SamplingSettings = SamplingSettings(max_new_tokens=192)
        """How answers are drawn."""
        batch_size: Annotated[int, Runtime] = Field(default=64, gt=0)
        """Rows per forward pass; changes speed and memory only."""

        @model_validator(mode="after")
        def _check_nothing_is_ignored(self) -> Self:
            if len(set(self.tasks)) < len(self.tasks):
                raise ValueError("a task is listed twice")
            # By value: a config that was read back from JSON has every field set.
            if self.phrasing == "brief" and self.language != "python":
                raise ValueError('brief prompts are Python; set phrasing = "rich", or remove language')
            if self.phrasing == "brief" and self.tasks != TASKS:
                raise ValueError('brief prompts set no tasks; set phrasing = "rich", or remove tasks')
            return self

    def __init__(self, config: Config) -> None:
        self.config = config
        self.space = TaskSpace(rich=config.phrasing == "rich", language=config.language, tasks=config.tasks)

    @property
    def language(self) -> str:
        """What completions are written in."""
        return self.config.language

    def identity(self) -> Mapping[str, Any]:
        """Return the content of the bank of tasks and scripts."""
        return banks.identity("code")

    def prompts(self, count: int, seed: int) -> Sequence[str]:
        """Return the first `count` prompts of the seeded stream."""
        return [self.space.prompt(seed, index).text for index in range(count)]

    def texts(self) -> Sequence[str]:
        """Return prompts that hold about every word that a model must know."""
        return self.prompts(SAMPLE, 0)

    def generate(self, teacher: Teacher, ctx: Context, start: int) -> Iterator[Row]:
        """Yield the teacher's rows from prompt number `start` on, in order; each row's `extra` names the task."""
        from subl.generators.code_sampling import generate

        return generate(self, teacher, ctx, start)
