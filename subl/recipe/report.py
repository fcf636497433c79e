"""All problems of a recipe at once: each with file and line (or flag), key, what was expected, and a suggestion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from subl.artifacts import Json
from subl.errors import RecipeError
from subl.recipe.layers import Origin


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend."""

    origin: Origin
    key: str
    message: str

    def __str__(self) -> str:
        text = ": ".join(part for part in (str(self.origin), self.key, self.message) if part)
        return text.replace("\n", "\n    ")

    def record(self) -> dict[str, Json]:
        """Return the problem as JSON."""
        line = self.origin.line
        return {"where": self.origin.where, "line": line, "key": self.key, "message": self.message}


class RecipeProblemsError(RecipeError):
    """A recipe with problems, sorted by where they stand."""

    def __init__(self, recipe: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.origin.rank, p.origin.line or 0, p.key)))
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join((f"{recipe} has {count}", *(f"  {problem}" for problem in self.problems))))


@dataclass(slots=True)
class Problems:
    """Collects problems while a recipe is read; the same problem of several variants counts once."""

    recipe: str
    _found: dict[tuple[Origin, str, str], Problem] = field(default_factory=dict)

    def add(self, origin: Origin, key: str, message: str, *, only: str = "") -> None:
        """Note a problem; `only` names the variant, where it is not one of the whole recipe."""
        # Behind the first semicolon stands advice, which may differ between arms with other plugins.
        fault = message.partition(";")[0]
        whole = f"{message} ({only})" if only else message
        self._found.setdefault((origin, key, fault), Problem(origin, key, whole))

    def stop(self) -> None:
        """Raise if there are problems.

        Raises:
            RecipeProblemsError: With all of them.
        """
        if self._found:
            raise RecipeProblemsError(self.recipe, list(self._found.values()))
