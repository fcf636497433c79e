"""Filter `duplicates`: keep the first of equal rows."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal

from subl import Context, PluginConfig, Row


class Duplicates:
    """Keeps the first of equal rows. White space at the ends does not count. Reason: "duplicate"."""

    version = 1

    class Config(PluginConfig):
        """Settings of `duplicates`."""

        compare: Literal["row", "completion"] = "row"
        """Rows are equal if prompt and completion are, or already if the completion is. Greedy answers to varied
        prompts repeat often; comparing completions keeps them from counting many times."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._seen: set[bytes] = set()

    def reject(self, rows: Sequence[Row], ctx: Context) -> Sequence[str | None]:  # noqa: ARG002 (the kind's contract)
        """Return a reason for each row that came before, in this batch or an earlier one."""
        return ["duplicate" if self._came_before(row) else None for row in rows]

    def _came_before(self, row: Row) -> bool:
        prompt = row.prompt.strip() if self.config.compare == "row" else ""
        key = blake2b(f"{len(prompt)} {prompt}{row.completion.strip()}".encode(), digest_size=16).digest()
        if key in self._seen:
            return True
        self._seen.add(key)
        return False
