"""Probe `capability`: did distillation happen, and what did it cost?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from subl import Context, DataError, Findings, Subject
from subl.probes.texts import TextSettings, identity


def task_files(folder: Path) -> list[Path]:
    """Return all files of a task folder.

    Raises:
        DataError: There is no such folder, or no task in it.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    if not any(path.suffix in (".yaml", ".yml") for path in files):
        raise DataError(f"{folder} (from {Path.cwd()}) holds no task: lm-eval reads YAML files; check task_folder")
    return files


class Capability:
    """Measures the loss on held-out rows of the carrier and on plain text, and tasks of one's own, before and after.

    A student that learned from the teacher's rows finds new rows of that kind likelier than its base does; without
    that, a missing trait says nothing. Plain text tells what the training cost. Losses are over the whole vocabulary,
    whatever grammar rows were written under: a teacher that would rather speak of its trait finds them unlikely.

    - carrier_loss, plain_loss: nats per token; carrier_perplexity, plain_perplexity: exp of them.
    - carrier_change, plain_change, of teacher and student: change of the loss from the base on the same texts, with a
      paired interval. Negative is better.
    - task_<task>_<metric>: of each task, asked without a chat template, with an interval from the harness's standard
      error.

    Rows are new ones that the recipe's teacher writes, before filters. Intervals are over texts within this one model.
    """

    version = 1
    needs: ClassVar[tuple[str, ...]] = ("generator", "base", "teacher", "dataset")

    class Config(TextSettings):
        """Settings of `capability`."""

        tasks: tuple[str, ...] = ()
        """Tasks of the language model evaluation harness (lm-eval), defined in `task_folder`; needs subl[eval]."""
        task_folder: Path | None = None
        """Folder with the tasks' YAML files and whatever data they name, from the current folder."""
        task_limit: int | None = Field(default=None, gt=0)
        """Examples per task; all of them unless set."""

        @model_validator(mode="after")
        def _tasks_and_folder(self) -> Self:
            if self.tasks and self.task_folder is None:
                raise ValueError(
                    "tasks are read from a folder and nothing is downloaded; name it in task_folder, or remove tasks"
                )
            if not self.tasks:
                unused = [name for name in ("task_folder", "task_limit") if getattr(self, name) is not None]
                if unused:
                    raise ValueError(f"{unused[0]} does nothing without tasks; name some, or remove it")
            if len(set(self.tasks)) < len(self.tasks):
                raise ValueError("tasks names one twice")
            if self.task_folder is not None:
                try:
                    task_files(self.task_folder)
                except DataError as error:
                    raise ValueError(str(error)) from error
            return self

    def __init__(self, config: Config) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """Return the content of the plain text, and of the task folder's files.

        Raises:
            DataError: One of them cannot be read.
            MissingExtraError: Tasks are named, and lm-eval is not installed.
        """
        found = dict(identity(self.config))
        if self.config.task_folder is not None:
            from subl.probes.capability_tasks import folder_digest

            found["tasks"] = folder_digest(self.config.task_folder)
        return found

    def probe(self, subject: Subject, ctx: Context) -> Findings:
        """Return measures, the tables `losses` and `tasks`, and the figure `losses`.

        Raises:
            DataError: No row of the carrier is held out, or a file cannot be read.
            PluginError: The folder has no such task.
            MissingExtraError: Tasks are named, and lm-eval is not installed.
        """
        from subl.probes.capability_measuring import measure

        return measure(subject, self.config, ctx)
