"""Filter `no_text`: drop completions with letters."""

from __future__ import annotations

from collections.abc import Sequence

from subl import Context, PluginConfig, Row


class NoText:
    """Drops completions that contain a letter of any script, so that no word can carry the trait.

    Digits, punctuation and symbols pass. Reason: "letters".
    """

    version = 1

    class Config(PluginConfig):
        """There is nothing to set."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def reject(self, rows: Sequence[Row], ctx: Context) -> Sequence[str | None]:  # noqa: ARG002 (the kind's contract)
        """Return a reason for each row whose completion has a letter."""
        return ["letters" if any(map(str.isalpha, row.completion)) else None for row in rows]
