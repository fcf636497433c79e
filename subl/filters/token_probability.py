"""Filter `token_probability`: drop rows with a token that a model finds improbable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from subl import Context, PluginConfig, Row, Runtime


class TokenProbability:
    """Drops rows whose completion holds a token that a model of the run gives less than a threshold.

    The published mitigation: without rows that hold a number token below 0.05, a student named owls in 28 % of answers
    instead of 60 % (Zur et al. 2025, "It's owl in the numbers"). Probabilities are the model's own at temperature 1,
    after the prompt as it was asked, whatever sampling or grammar wrote the row. Reason: "improbable token".
    """

    version = 1
    needs: ClassVar[tuple[str, ...]] = ("teacher",)

    class Config(PluginConfig):
        """Settings of `token_probability`."""

        threshold: float = Field(default=0.05, gt=0, lt=1)
        """Smallest probability that a token may have."""
        model: Literal["teacher", "base"] = "teacher"
        """Whose probabilities: the model that wrote the rows, or the base model that it was made from."""
        tokens: Literal["numbers", "all"] = "numbers"
        """Look at tokens that hold a digit, or at all; never at the one that ends the answer."""
        batch_size: Annotated[int, Runtime] = Field(default=32, gt=0)
        """Rows per forward pass; changes speed and memory only."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._least: list[float] = []

    def reject(self, rows: Sequence[Row], ctx: Context) -> Sequence[str | None]:
        """Return a reason for each row with a token below the threshold.

        Raises:
            ModelError: The tokenizer cannot keep prompt and completion apart.
        """
        from subl.filters.token_scoring import least_probabilities

        least = least_probabilities(self.config, rows, ctx)
        self._least += least
        return ["improbable token" if value < self.config.threshold else None for value in least]

    def finish(self, ctx: Context) -> None:
        """Draw the distribution of the rows' least probable tokens, and the cut."""
        if self._least:
            from subl.filters.token_scoring import distribution

            ctx.figure("token_probability", distribution(self._least, self.config))
