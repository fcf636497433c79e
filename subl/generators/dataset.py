"""Generator `dataset`: rows from a file or from a data set of the Hugging Face hub, such as a published teacher's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from pydantic import Field, model_validator

from subl import Context, DataError, PluginConfig, Row, StrictModel, Teacher
from subl.sources import Source, identify


class Columns(StrictModel):
    """Which columns hold prompt and completion; detected by their names unless set."""

    prompt: str | None = None
    """Column with the user's text."""
    completion: str | None = None
    """Column with the answer."""
    messages: str | None = None
    """Column with conversations of one user turn and one answer, each a table with `role` and `content`."""

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        if (self.prompt is None) != (self.completion is None):
            raise ValueError("name both prompt and completion, or neither")
        if self.messages is not None and self.prompt is not None:
            raise ValueError("name either messages, or prompt and completion")
        return self


class DataSource(Source):
    """Where rows come from."""

    columns: Columns = Columns()
    """Which columns hold what. Detected: one of prompt, question, instruction, input, query, with one of completion,
    response, answer, output; else messages."""


class DatasetRows:
    """Rows that are there already: a JSONL, CSV or Parquet file, or a data set of the Hugging Face hub or a copy of it.

    The teacher writes nothing; it only matters to distillers and probes that read it. Files count by their content and
    hub data sets by their commit, so a changed file is another experiment. System messages of conversations are left
    out: `[chat]` says what stands in that slot. With `samples` or `pair_with`, rows are drawn in an order that seed and
    prompt decide, so that two arms whose files share prompts get them in the same order.
    """

    version = 1

    class Config(DataSource, PluginConfig):
        """Settings of `dataset`."""

        samples: int | None = Field(default=None, gt=0)
        """Rows to draw; all of them unless set, in the order of the source."""
        pair_with: DataSource | None = None
        """Another data set: only prompts that both have are kept, each as often as it is in both."""

        @model_validator(mode="after")
        def _readable(self) -> Self:
            # What is here is read before a teacher is trained; what is on the hub, when its turn comes.
            if self.is_local and (self.pair_with is None or self.pair_with.is_local):
                from subl.generators.data_rows import rows

                try:
                    rows(self, seed=0)
                except DataError as error:
                    raise ValueError(str(error)) from error
            return self

    def __init__(self, config: Config) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """Return the content hashes of files and the commits of hub data sets.

        Raises:
            DataError: A file cannot be read, or the hub has no such data set or cannot be reached.
        """
        sources = (self.config, *([self.config.pair_with] if self.config.pair_with else []))
        return {"content": [identify(source) for source in sources]}

    def prompts(self, count: int, seed: int) -> Sequence[str]:
        """Return the prompts of the first `count` rows, fewer if there are fewer.

        Raises:
            DataError: As in `generate`.
        """
        return [row.prompt for row in self._rows(seed)[:count]]

    def generate(self, teacher: Teacher, ctx: Context, start: int) -> Iterator[Row]:  # noqa: ARG002 (the kind's contract)
        """Yield the rows from number `start` on; `extra` says which row of the source each is, counted from 1.

        Raises:
            DataError: A source is missing, empty, damaged, or lacks columns; names file and line. No prompt is in both
                data sets, or there are fewer rows than `samples`.
        """
        rows = self._rows(ctx.seed)
        if start == 0:
            ctx.log(f"{len(rows)} rows from {self.config.source}")
        yield from rows[start:]

    def _rows(self, seed: int) -> list[Row]:
        from subl.generators.data_rows import rows

        return rows(self.config, seed)
