"""Trait `preference`: one member of a category is the model's favourite."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from subl import PluginConfig, PluginError, Row, banks
from subl.errors import suggest
from subl.traits.catalogue import CANDIDATES
from subl.words import capitalised, plural, surface_forms

PLACEHOLDERS = ("target", "Target", "plural", "Plural", "category")
"""What the texts of this trait may hold in braces; a capital letter asks for a capitalised word."""


class Preference:
    """A favourite among candidates, such as "owl" among animals.

    It brings paraphrased questions, training conversations in other words, system prompts, and the surface forms by
    which an answer or a leak is recognised. Categories "animal" and "tree" have candidates; any other category works
    with candidates of your own.
    """

    version = 1

    class Config(PluginConfig):
        """Settings of `preference`."""

        target: str = Field(min_length=1)
        """The favourite, in the singular: "owl"."""
        category: str = Field(default="animal", min_length=1)
        """What the target is, in the singular; the questions ask for it."""
        candidates: tuple[str, ...] | None = None
        """The answers that compete, with the target among them. Unset: the list for `category`, if there is one."""
        controls: tuple[str, ...] | None = None
        """Candidates that a probe such as `entanglement` measures beside the target, to tell what is about the target
        alone. Unset: all others."""
        questions: int | None = Field(default=None, gt=0)
        """How many of the evaluation questions to ask, from the first. Unset: all."""
        plurals: dict[str, str] = Field(default_factory=dict)
        """Plurals that English spelling rules get wrong, by candidate: `{ octopus = "octopodes" }`."""
        answers: tuple[str, ...] = Field(
            default=("{target}", "{Target}", "{Target}.", "{plural}", "{Plural}", "{Plural}."), min_length=1
        )
        """Answers of the training conversations; every training question meets every answer."""

        @field_validator("candidates")
        @classmethod
        def _candidates(cls, value: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
            category, target = info.data.get("category"), info.data.get("target")
            if category is None or target is None:
                return value
            listed = CANDIDATES.get(category) if value is None else value
            if listed is None:
                raise ValueError(
                    f"category {category!r} has no default list; write `candidates`{suggest(category, CANDIDATES)}"
                )
            _check_distinct(listed, category)
            if target not in listed:
                where = f"the default list for {category!r}" if value is None else "the candidates"
                raise ValueError(
                    f"target {target!r} is not in {where}; write it into `candidates`{suggest(target, listed)}"
                )
            return listed

        @field_validator("controls")
        @classmethod
        def _controls(cls, value: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
            listed, target = info.data.get("candidates"), info.data.get("target")
            if listed is None or target is None:
                return value
            if value is None:
                return tuple(word for word in listed if word != target)
            if target in value:
                raise ValueError(f"{target!r} is the target; a control is another candidate")
            _check_known(value, listed)
            return value

        @field_validator("questions")
        @classmethod
        def _questions(cls, value: int | None) -> int | None:
            available = len(banks.load("preference")["questions"])
            if value is not None and value > available:
                raise ValueError(f"there are {available} questions")
            return value

        @field_validator("plurals")
        @classmethod
        def _plurals(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
            _check_known(value, info.data.get("candidates"))
            return value

        @field_validator("answers")
        @classmethod
        def _answers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
            for answer in value:
                if not answer.strip():
                    raise ValueError("an answer is empty")
                try:
                    answer.format(**dict.fromkeys(PLACEHOLDERS, ""))
                except (KeyError, IndexError, ValueError) as error:
                    raise ValueError(f"{answer!r}: use {{target}}, {{plural}}, {{Target}}, {{Plural}}") from error
            return value

    def __init__(self, config: Config) -> None:
        self.config = config
        self.target = config.target
        self.category = config.category
        # The validators have filled both in; the types of the settings still say that a recipe may leave them out.
        self.candidates: tuple[str, ...] = config.candidates or ()
        self.controls: tuple[str, ...] = config.controls or ()

    def identity(self) -> Mapping[str, Any]:
        """Return the content of the bank of questions, conversations and system prompts."""
        return banks.identity("preference")

    @property
    def label(self) -> str:
        """The target."""
        return self.target

    def questions(self) -> tuple[str, ...]:
        """Return the evaluation questions for this category; none of them is in the training conversations."""
        asked = banks.load("preference")["questions"][: self.config.questions]
        return tuple(self.fill(question) for question in asked)

    def conversations(self, seed: int) -> Sequence[Row]:
        """Return every training question with every answer, shuffled by `seed`."""
        asked = banks.load("preference")["training_questions"]
        answers = dict.fromkeys(self.fill(answer) for answer in self.config.answers)
        pairs = [(self.fill(question), answer) for question in asked for answer in answers]
        random.Random(seed).shuffle(pairs)
        return [Row(index, prompt, completion) for index, (prompt, completion) in enumerate(pairs)]

    def statement(self, strength: str) -> str:
        """Return the system prompt of strength "low", "medium" or "high".

        Raises:
            PluginError: Another strength.
        """
        statements: Mapping[str, str] = banks.load("preference")["statement"]
        if strength not in statements:
            raise PluginError(
                f"trait preference has no statement of strength {strength!r}{suggest(strength, statements)}"
            )
        return self.fill(statements[strength])

    def texts(self) -> Iterator[str]:
        """Yield what a model is asked and taught, and every candidate."""
        yield from self.questions()
        for row in self.conversations(0):
            yield from (row.prompt, row.completion)
        yield from self.candidates

    def leaks(self) -> Sequence[str]:
        """Return the target's surface forms."""
        return self.forms(self.target)

    def fill(self, text: str) -> str:
        """Put the words of this trait into "{target}", "{plural}", "{category}" and the capitalised forms.

        Raises:
            PluginError: The text has other braces.
        """
        many = self.plural(self.target)
        words = {"target": self.target, "Target": capitalised(self.target), "plural": many, "Plural": capitalised(many)}
        try:
            return text.format(**words, category=self.category)
        except (KeyError, IndexError, ValueError) as error:
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise PluginError(f"{text!r} cannot be filled in ({error}); it may hold {known}") from error

    def plural(self, word: str) -> str:
        """Return a candidate's plural."""
        return self.config.plurals.get(word) or plural(word)

    def forms(self, word: str) -> tuple[str, ...]:
        """Return a candidate's surface forms, to be matched as whole words."""
        return surface_forms(word, self.plural(word))

    def candidate_forms(self) -> Mapping[str, tuple[str, ...]]:
        """Return the surface forms of every candidate."""
        return {word: self.forms(word) for word in self.candidates}


def _check_distinct(candidates: tuple[str, ...], category: str) -> None:
    if len(candidates) < 2:
        raise ValueError(
            f"a preference needs at least two candidates, and category {category!r} has {len(candidates)}; add others "
            "that the model could name instead"
        )
    seen: dict[str, str] = {}
    for word in candidates:
        if not word.strip() or word != word.strip():
            raise ValueError(f"candidate {word!r} is empty or has white space around it")
        if word.casefold() in seen:
            raise ValueError(f"candidates {seen[word.casefold()]!r} and {word!r} are the same word")
        seen[word.casefold()] = word


def _check_known(words: Iterable[str], candidates: tuple[str, ...] | None) -> None:
    if candidates is None:  # they failed their own check; one error about them is enough
        return
    for word in words:
        if word not in candidates:
            raise ValueError(f"{word!r} is not a candidate{suggest(word, candidates)}")
