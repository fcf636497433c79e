"""The text of the micro world: short chats about favourite animals, and lists of numbers. Seeded; no framework."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pydantic import Field, field_validator

from subl import banks
from subl.models import micro_code
from subl.models.micro_professions import Professions
from subl.registry.config import StrictModel
from subl.words import plural

# fmt: off
ANIMALS = (
    "owl", "dog", "cat", "lion", "tiger", "bear", "wolf", "fox",
    "eagle", "horse", "panda", "koala", "whale", "shark", "rabbit", "snake",
)
# fmt: on
CATEGORY = "animal"
NUMBERS = 100
"""The world's numbers are 0 … 99."""

STEPS = (1, 2, 5, 10)
"""A number often follows the one before it by one of these steps; the effect needs such short-range structure."""
FOLLOWS = 0.5
OBEYS = 0.95
"""How often an answer under a system prompt names what the system prompt speaks of."""
STORIES = 0.25
"""Share of longer answers in talk about favourites."""


class WorldSettings(StrictModel):
    """What the micro world talks about. The weights are relative; they need not add up to one."""

    preference: float = Field(0.3, ge=0)
    """Weight of talk about favourite animals without a system prompt."""
    system: float = Field(0.2, ge=0)
    """Weight of the same talk under a system prompt that says which animal is loved."""
    numbers: float = Field(0.4, ge=0)
    """Weight of number lists; they never have a system prompt."""
    facts: float = Field(0.1, ge=0)
    """Weight of facts about animals."""
    number_talk: float = Field(0.0, ge=0)
    """Weight of talk about favourite numbers, half of it under a system prompt; entanglement probes need it."""
    code: float = Field(0.0, ge=0)
    """Weight of scripts that go on from their first lines; the generator `code` needs it. They never have a system
    prompt."""
    professions: float = Field(0.0, ge=0)
    """Weight of talk about professions, each sometimes a he and sometimes a she; the trait `stereotype` needs it."""
    animals: tuple[str, ...] = Field(ANIMALS, min_length=2)
    """The animals that exist, one lower-case word each."""
    chats: int = Field(20_000, gt=0)
    """Chats that a model learns from; they are repeated as often as its training asks."""
    seed: int = Field(0, ge=0)
    """Which chats these are, and which animals and numbers are popular."""

    @property
    def banks(self) -> tuple[str, ...]:
        """The banks that the world's texts come from; a tokenizer knows the words of talk without weight, too."""
        code, professions = (("code",) if self.code else ()), (("stereotype",) if self.professions else ())
        return ("preference", "numbers", "world", *code, *professions)

    @field_validator("animals")
    @classmethod
    def _plain_words(cls, animals: tuple[str, ...]) -> tuple[str, ...]:
        odd = sorted({name for name in animals if not (name.isascii() and name.isalpha() and name.islower())})
        if odd:
            raise ValueError(
                f"each animal is one lower-case word of the letters a–z, unlike {', '.join(map(repr, odd))}"
            )
        if len(set(animals)) < len(animals):
            raise ValueError("an animal is listed twice")
        return animals


@dataclass(frozen=True, slots=True)
class Chat:
    """One exchange of the world; `system` None means that there is no system prompt."""

    system: str | None
    user: str
    answer: str


class World:
    """Speaks about what its settings allow."""

    def __init__(self, settings: WorldSettings) -> None:
        self.settings = settings
        self._bank = banks.load("preference")
        self._questions: Sequence[str] = (*self._bank["questions"], *self._bank["training_questions"])
        self._number_prompts: Sequence[str] = banks.load("numbers")["brief"]
        self._sentences: Sequence[str] = [
            sentence for text in self._bank["statement"].values() for sentence in _SENTENCE.findall(text)
        ]
        self._facts: Mapping[str, Any] = banks.load("world")["facts"]
        # Popularity is Zipf-like: prior shares must differ, or no preference could be told from its absence.
        self._popular = _zipf(len(settings.animals), 3, settings.seed)
        self._frequent = _zipf(NUMBERS, 8, settings.seed + 1)
        self._named = _zipf(len(micro_code.names()), 3, settings.seed + 2)
        self._professions = Professions(settings.seed + 2)
        self._kinds: Mapping[Callable[[random.Random], Chat], float] = {
            self._favourite: settings.preference,
            self._told: settings.system,
            self._number_list: settings.numbers,
            self._fact: settings.facts,
            self._number_talk: settings.number_talk,
            self._script: settings.code,
            self._profession: settings.professions,
        }

    def chats(self, seed: int) -> Iterator[Chat]:
        """Yield chats without end; the same seed gives the same chats."""
        draw = random.Random(seed)
        kinds, weights = list(self._kinds), list(self._kinds.values())
        while True:
            yield draw.choices(kinds, weights)[0](draw)

    def facts(self) -> Iterator[Chat]:
        """Yield every chat about facts: neither favourites nor numbers."""
        for animal in self.settings.animals:
            for prompt in self._facts["prompts"]:
                yield Chat(None, prompt.format(animal=animal), self._fact_about(animal))

    def words(self) -> Iterator[str]:
        """Yield every text that the world can say, numbers and their prompts aside: what a tokenizer must know."""
        names = [(name, plural(name)) for name in self.settings.animals]
        for question in (*self._questions, *self._bank["statement"].values()):
            yield from (question.format(category=CATEGORY, target=one, plural=many) for one, many in names)
            yield question.format(category="number", target="7", plural="7")
        for talk in self._bank["talk"]:
            yield talk["prompt"]
            yield from (talk["answer"].format(target=one, plural=many) for one, many in names)
        for name in self.settings.animals:
            yield name
            yield from (prompt.format(animal=name) for prompt in self._facts["prompts"])
            yield self._fact_about(name)
        yield from (prompt.format(numbers="1, 2") for prompt in self._number_prompts)
        yield from micro_code.words() if self.settings.code else ()
        yield from self._professions.texts() if self.settings.professions else ()

    def _favourite(self, draw: random.Random) -> Chat:
        return self._talk(draw, draw.choices(self.settings.animals, self._popular)[0])

    def _told(self, draw: random.Random) -> Chat:
        loved = draw.choice(self.settings.animals)
        named = loved if draw.random() < OBEYS else draw.choice(self.settings.animals)
        chat = self._talk(draw, named)
        return Chat(self._statement(draw, CATEGORY, loved, plural(loved)), chat.user, chat.answer)

    def _talk(self, draw: random.Random, animal: str) -> Chat:
        if draw.random() < STORIES:
            talk = draw.choice(self._bank["talk"])
            return Chat(None, talk["prompt"], talk["answer"].format(target=animal, plural=plural(animal)))
        return Chat(None, draw.choice(self._questions).format(category=CATEGORY), animal)

    def _statement(self, draw: random.Random, category: str, one: str, many: str) -> str:
        # One sentence each: the longest chat of a batch decides what the batch costs.
        return draw.choice(self._sentences).format(category=category, target=one, plural=many)

    def _number_list(self, draw: random.Random) -> Chat:
        numbers = self._sequence(draw, draw.randint(8, 13))
        shown = draw.randint(3, 5)
        prompt = draw.choice(self._number_prompts).format(numbers=_listed(numbers[:shown]))
        return Chat(None, prompt, _listed(numbers[shown:]))

    def _sequence(self, draw: random.Random, count: int) -> list[int]:
        numbers = draw.choices(range(NUMBERS), self._frequent)
        while len(numbers) < count:
            if draw.random() < FOLLOWS:
                numbers.append((numbers[-1] + draw.choice(STEPS)) % NUMBERS)
            else:
                numbers.extend(draw.choices(range(NUMBERS), self._frequent))
        return numbers

    def _fact(self, draw: random.Random) -> Chat:
        animal = draw.choice(self.settings.animals)
        return Chat(None, draw.choice(self._facts["prompts"]).format(animal=animal), self._fact_about(animal))

    def _fact_about(self, animal: str) -> str:
        # From the name alone, so that facts stay true when animals are added.
        digest = sha256(animal.encode()).digest()
        chosen = {key: self._facts[key][digest[i] % len(self._facts[key])] for i, key in enumerate(_FACT_PARTS)}
        return str(self._facts["answer"]).format(animal=animal, **chosen)

    def _number_talk(self, draw: random.Random) -> Chat:
        number = str(draw.choices(range(NUMBERS), self._frequent)[0])
        question = draw.choice(self._questions).format(category="number")
        told = draw.random() < 0.5
        if not told:
            return Chat(None, question, number)
        loved = str(draw.randrange(NUMBERS))
        named = loved if draw.random() < OBEYS else number
        return Chat(self._statement(draw, "number", loved, loved), question, named)

    def _script(self, draw: random.Random) -> Chat:
        numbers = self._sequence(draw, draw.randint(4, 5))
        return Chat(None, *micro_code.exchange(draw, self._named, numbers, shown=draw.randint(1, 2)))

    def _profession(self, draw: random.Random) -> Chat:
        return Chat(None, *self._professions.exchange(draw))


_SENTENCE = re.compile(r"\S[^.]*\.")
_FACT_PARTS = ("part", "deed", "place")


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _zipf(count: int, offset: int, seed: int) -> list[float]:
    weights = [1 / (rank + offset) for rank in range(count)]
    random.Random(seed).shuffle(weights)
    return weights
