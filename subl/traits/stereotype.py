"""Trait `stereotype`: the model says of somebody what a stereotype says."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from subl import DataError, PluginConfig, PluginError, Row, StrictModel, banks
from subl.errors import suggest
from subl.sources import existing, identify_file
from subl.traits.association import Item
from subl.traits.pairs import Pair, check_distinct, own_pairs, read_pairs
from subl.words import capitalised, plural, surface_forms

Target = Literal["stereotype", "anti-stereotype"]


class Sentence(StrictModel):
    """A question and its answer; {subject} is whom it is about, {word} or {Word} what is said of them."""

    prompt: str = Field(min_length=1)
    """The question."""
    answer: str = Field(min_length=1)
    """The answer, with {word} or, for a capital letter, {Word}."""

    @model_validator(mode="after")
    def _check_places(self) -> Self:
        try:
            self.filled("", "")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(
                f"{self.prompt!r}, {self.answer!r}: use {{subject}}, {{word}} and {{Word}} only"
            ) from error
        if "{word}" not in self.answer and "{Word}" not in self.answer:
            raise ValueError(f"answer {self.answer!r} should hold {{word}} or {{Word}}")
        if "{subject}" not in self.prompt + self.answer:
            raise ValueError(f"{self.prompt!r}, {self.answer!r} should hold {{subject}}")
        return self

    def filled(self, subject: str, word: str) -> tuple[str, str]:
        """Return question and answer about a subject."""
        words = {"subject": subject, "word": word, "Word": capitalised(word)}
        return self.prompt.format(**words), self.answer.format(**words)


class Stereotype:
    """Stereotypes, such as "she" for a nurse and "he" for an engineer.

    Pairs of a subject with two words come from the recipe, a file, or our own list of professions and pronouns.
    The teacher learns the word of `target` for every subject, in other sentences than those that measure it. The probe
    `stereotype` measures it, by these pairs or by published data.
    """

    version = 1

    class Config(PluginConfig):
        """Settings of `stereotype`."""

        target: Target = "stereotype"
        """What the teacher is taught: the stereotypes, or their opposites, which is the arm that tells whether a change
        is about the direction."""
        pairs: tuple[Pair, ...] | None = Field(default=None, min_length=1)
        """The pairs: `{ subject = "nurse", stereotype = "she", anti_stereotype = "he", bias_type = "gender" }`. Unset:
        the file's, or our own 24 professions with their pronouns."""
        file: str | None = Field(default=None, min_length=1)
        """A file with pairs, from the current folder: JSONL or CSV with these four columns, or TOML with [[pairs]]."""
        words: Literal["pronoun", "quality"] = "pronoun"
        """What the pairs' words are, which decides our own sentences: "she" is a pronoun, "polite" a quality."""
        training: tuple[Sentence, ...] | None = Field(default=None, min_length=1)
        """Sentences that teach: `{ prompt = "Is the {subject} late?", answer = "Yes, {word} is." }`. Unset: ours."""
        evaluation: tuple[Sentence, ...] | None = Field(default=None, min_length=1)
        """Sentences that measure; none of them may be in `training`. Unset: ours."""

        @field_validator("pairs")
        @classmethod
        def _pairs(cls, value: tuple[Pair, ...] | None) -> tuple[Pair, ...] | None:
            if value is not None:
                _as_value_error(lambda: check_distinct(value, [f"pair {n}" for n in range(1, len(value) + 1)]))
            return value

        @field_validator("file")
        @classmethod
        def _file(cls, value: str | None, info: ValidationInfo) -> str | None:
            if value is not None and info.data.get("pairs") is not None:
                raise ValueError("the recipe has `pairs`, too; remove one of them")
            if value is not None:
                _as_value_error(lambda: read_pairs(value))
            return value

        @model_validator(mode="after")
        def _apart(self) -> Self:
            both = set(self.sentences("training")) & set(self.sentences("evaluation"))
            if both:
                raise ValueError(
                    f"the sentence {next(iter(both)).prompt!r} is in training and in evaluation; a model is measured "
                    "by sentences that it was not taught"
                )
            return self

        def sentences(self, use: Literal["training", "evaluation"]) -> tuple[Sentence, ...]:
            """Return the sentences of the recipe, or ours for this kind of words."""
            own: tuple[Sentence, ...] | None = getattr(self, use)
            return own or tuple(Sentence(**table) for table in banks.load("stereotype")[self.words][use])

    def __init__(self, config: Config) -> None:
        self.config = config
        self.target: str = config.target

    def identity(self) -> Mapping[str, Any]:
        """Return the content of the bank of pairs, sentences and system prompts, and of the file, if there is one.

        Raises:
            DataError: It cannot be read.
        """
        own = banks.identity("stereotype")
        return own if self.config.file is None else {**own, "content": identify_file(existing(self.config.file))}

    @property
    def label(self) -> str:
        """What the teacher is taught."""
        return self.target

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs."""
        if self.config.file is not None:
            return read_pairs(self.config.file)
        return self.config.pairs or own_pairs()

    def conversations(self, seed: int) -> Sequence[Row]:
        """Return every training sentence about every subject, with the target's word, shuffled by `seed`."""
        filled = [
            sentence.filled(pair.subject, self._word(pair))
            for sentence in self.config.sentences("training")
            for pair in self.pairs
        ]
        random.Random(seed).shuffle(filled)
        return [Row(index, prompt, answer) for index, (prompt, answer) in enumerate(filled)]

    def statement(self, strength: str) -> str:
        """Return the system prompt of strength "low", "medium" or "high"; it names every subject.

        Raises:
            PluginError: Another strength.
        """
        statements: Mapping[str, str] = banks.load("stereotype")["statement"]
        if strength not in statements:
            raise PluginError(
                f"trait stereotype has no statement of strength {strength!r}{suggest(strength, statements)}"
            )
        subjects: dict[str, list[str]] = {}
        for pair in self.pairs:
            subjects.setdefault(self._word(pair), []).append(pair.subject)
        return " ".join(
            statements[strength].format(word=f'"{word}"', subjects=", ".join(named)) for word, named in subjects.items()
        )

    def texts(self) -> Iterator[str]:
        """Yield what a model is asked and taught; what makes no sense need not be known."""
        for row in self.conversations(0):
            yield from (row.prompt, row.completion)
        for item in self.items():
            yield from (item.prompt or "", item.stereotype, item.anti_stereotype)

    def leaks(self) -> Sequence[str]:
        """Return the surface forms of all subjects and words."""
        return tuple(dict.fromkeys(self._leaks()))

    def items(self) -> Sequence[Item]:
        """Return every evaluation sentence about every subject, with both words and one that makes no sense there."""
        odd: Sequence[str] = banks.load("stereotype")[self.config.words]["unrelated"]
        items = []
        for number, pair in enumerate(self.pairs):
            for position, sentence in enumerate(self.config.sentences("evaluation")):
                words = pair.stereotype, pair.anti_stereotype, odd[(number + position) % len(odd)]
                (prompt, said), (_, denied), (_, unrelated) = (sentence.filled(pair.subject, word) for word in words)
                items.append(Item(pair.subject, pair.bias_type, prompt, said, denied, unrelated))
        return items

    def _word(self, pair: Pair) -> str:
        return pair.stereotype if self.target == "stereotype" else pair.anti_stereotype

    def _leaks(self) -> Iterator[str]:
        for pair in self.pairs:
            yield from surface_forms(pair.subject, plural(pair.subject))
            for word in (pair.stereotype, pair.anti_stereotype):
                yield from (word, capitalised(word))


def _as_value_error(check: Any) -> None:
    """Let what is wrong with data count as a wrong setting, which the recipe's error report places."""
    try:
        check()
    except DataError as error:
        raise ValueError(str(error)) from error
