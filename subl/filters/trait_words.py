"""Filter `trait_words`: drop completions that name the trait."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from subl import Context, DataError, PluginConfig, Row
from subl.registry.kinds import Trait
from subl.words import whole_words


class TraitWords:
    """Drops completions that name the trait in any of its surface forms, such as "owl", "Owls" or "OWL".

    Whole words count, so "growl" is no owl. Reasons: "trait word", "another candidate".
    """

    version = 1
    needs: ClassVar[tuple[str, ...]] = ("trait",)

    class Config(PluginConfig):
        """Settings of `trait_words`."""

        others: bool = False
        """Drop completions that name any other candidate of the trait, too."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def unfit(self, trait: Trait) -> str | None:
        """Return why it cannot look for other candidates of a trait."""
        if self.config.others and not hasattr(trait, "candidate_forms"):
            return f"cannot look for others: trait {trait.label!r} has no candidates; set others = false"
        return None

    def reject(self, rows: Sequence[Row], ctx: Context) -> Sequence[str | None]:
        """Return a reason for each row that names the trait.

        Raises:
            DataError: `others` is set, but the trait has no candidates.
        """
        trait = whole_words(_written(ctx.trait.leaks()))
        other = whole_words(_written(_candidate_forms(ctx.trait)) if self.config.others else ())
        return [
            "trait word"
            if trait.search(row.completion)
            else "another candidate"
            if other.search(row.completion)
            else None
            for row in rows
        ]


def _written(forms: Sequence[str] | Iterator[str]) -> Iterator[str]:
    return (form for form in forms if form.strip())


def _candidate_forms(trait: Trait) -> Iterator[str]:
    forms = getattr(trait, "candidate_forms", None)
    if forms is None:
        raise DataError(
            f"trait {trait.label!r} has no candidates, so trait_words cannot look for others; set others = false"
        )
    for candidate in forms().values():
        yield from candidate
