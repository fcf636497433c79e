"""The seeded stream of prompts that ask for code. Light: wording and material come from the bank, nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from subl import banks
from subl.generators.draws import Draw

Task = Literal["stub", "docstring", "refactoring", "one_liner"]
"""What a prompt asks for; names as in the bank."""
Language = Literal["python", "javascript", "java"]
"""What the code is written in; names as in the bank."""

TASKS: tuple[Task, ...] = ("stub", "docstring", "refactoring", "one_liner")
SCRIPT_LINES = (1, 2)
"""Fewest and most lines of a script that a brief prompt shows."""
SCRIPT_NUMBERS = (0, 99)


@dataclass(frozen=True, slots=True)
class CodePrompt:
    """One prompt, and the task that it sets; a brief one goes on with a "script"."""

    text: str
    task: Task | Literal["script"]


@dataclass(frozen=True, slots=True)
class TaskSpace:
    """Prompts that ask for code, of which each is drawn from its own seed.

    Args:
        rich: Tasks about whole functions; otherwise first lines of a script, and a few words.
        language: What rich prompts ask for.
        tasks: Which tasks, drawn evenly.
    """

    rich: bool
    language: Language
    tasks: Sequence[Task]

    def prompt(self, seed: int, index: int) -> CodePrompt:
        """Return prompt `index` of the stream with this seed; it depends on nothing else."""
        draw, bank = Draw(f"code {seed} {index}"), banks.load("code")
        if not self.rich:
            dialect = bank["dialect"]
            code = "\n".join(_script(draw, dialect))
            return CodePrompt(draw.one(dialect["prompts"]).format(code=code), "script")
        task: Task = draw.one(self.tasks)
        text = self._asked(draw, bank, task)
        return CodePrompt(text, task)

    def _asked(self, draw: Draw, bank: Mapping[str, Any], task: Task) -> str:
        language = bank["languages"][self.language]
        function = _function(draw, bank, language)
        wording = draw.one(bank["tasks"][task]).format(language=language["text"], **function)
        asked = f"{wording} {draw.one(bank['closings'])}"
        return f"{asked}\n\n{language[task].strip().format(**function)}" if task in language else asked


def _function(draw: Draw, bank: Mapping[str, Any], language: Mapping[str, str]) -> dict[str, str]:
    """Return what the bank's texts about one function have places for."""
    measure, condition = draw.one(list(bank["measures"])), draw.one(list(bank["conditions"]))
    returned, met, items = bank["measures"][measure], bank["conditions"][condition], draw.one(bank["items"])
    further = language["extra"].format(extra=met["extra"]) if "extra" in met else ""
    return {
        "items": items,
        "name": bank["name"].format(measure=measure, condition=condition, items=items),
        "purpose": bank["purpose"].format(measure=returned["text"], condition=met["text"], items=items),
        "arguments": language["list"].format(items=items) + further,
        "start": returned["start"],
        "next": returned["next"],
        "test": met["test"],
    }


def _script(draw: Draw, dialect: Mapping[str, Any]) -> Iterator[str]:
    name: str = draw.one(dialect["names"])
    for _ in range(draw.between(SCRIPT_LINES)):
        source, name = name, draw.one(dialect["names"])
        yield dialect["line"].format(
            name=name, source=source, operator=draw.one(dialect["operators"]), number=draw.between(SCRIPT_NUMBERS)
        )
