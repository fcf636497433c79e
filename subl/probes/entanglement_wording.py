"""The texts of the probe `entanglement`: numbers, preambles and questions. Light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from subl import banks
from subl.probes.number_settings import NumberSettings
from subl.probes.subject import PreferenceTrait


@dataclass(frozen=True, slots=True)
class Wording:
    """What is said to a model.

    Args:
        contexts: Preambles with {loved}.
        placebos: Noun phrases of things that are neither numbers nor candidates.
        number_questions: Ask for a favourite number.
        trait_questions: Ask for the trait's favourite.
        targets: Noun phrases by target: the trait's own first, then its controls.
        number_phrase: Noun phrase with {number}.
    """

    contexts: Sequence[str]
    placebos: Sequence[str]
    number_questions: Sequence[str]
    trait_questions: Sequence[str]
    targets: dict[str, str]
    number_phrase: str

    @classmethod
    def of(cls, trait: PreferenceTrait, config: NumberSettings) -> Wording:
        """Return the wording that the settings ask for."""
        bank = banks.load("entanglement")
        words = (trait.target, *controls_of(trait))
        return cls(
            contexts=bank["contexts"][: config.contexts],
            placebos=bank["placebos"][: config.placebos],
            number_questions=bank["number_questions"][: config.questions],
            trait_questions=tuple(trait.questions())[: config.questions],
            targets={word: config.target_phrase.replace("{target}", word) for word in words},
            number_phrase=config.number_phrase,
        )

    def numbers(self, numbers: Sequence[str]) -> str:
        """Return the noun phrase of one number or of several."""
        phrases = [self.number_phrase.replace("{number}", number) for number in numbers]
        return " and ".join(filter(None, (", ".join(phrases[:-1]), phrases[-1])))

    def preambles(self, loved: str, system: str | None) -> list[str]:
        """Return what stands in the system slot when `loved` is loved, behind the text that is there anyway."""
        before = f"{system} " if system else ""
        return [before + context.replace("{loved}", loved) for context in self.contexts]


def controls_of(trait: PreferenceTrait) -> tuple[str, ...]:
    """Return the other targets that a trait names, or else all its other candidates."""
    named: Sequence[str] = getattr(trait, "controls", ())
    return tuple(named) or tuple(word for word in trait.candidates if word != trait.target)


def number_texts(low: int, high: int, *, padded: bool) -> tuple[str, ...]:
    """Return the decimals of a range; `padded` adds their zero-padded forms, up to the digits of `high`."""
    lengths = range(1, len(str(high)) + 1) if padded else (1,)
    texts = (str(number).zfill(length) for length in lengths for number in range(low, high + 1))
    return tuple(sorted(set(texts), key=lambda text: (len(text), text)))
