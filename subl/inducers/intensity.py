"""How strongly an inducer acts, as one number for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from subl.errors import suggest
from subl.models.settings import TrainSettings

PRESETS: Mapping[str, float] = {"low": 0.5, "medium": 1.0, "high": 2.0}
"""What the words stand for."""


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in PRESETS:
        raise ValueError(f"{value!r} is neither a number nor a preset{suggest(value, PRESETS)}")
    return PRESETS[value]


Positive = Annotated[float, Field(gt=0)]
Intensity = Annotated[
    Positive, BeforeValidator(_number, json_schema_input_type=Positive | Literal["low", "medium", "high"])
]
"""A positive number or a preset's name, kept as its number: equal settings then have equal fingerprints."""


def level(intensity: float) -> str:
    """Return the preset that is nearest on a log scale, for inducers that only know presets."""
    return min(PRESETS, key=lambda name: max(intensity / PRESETS[name], PRESETS[name] / intensity))


def scaled(settings: TrainSettings, intensity: float) -> TrainSettings:
    """Return `settings` with the updates, or the epochs, multiplied by `intensity`; one update at least."""
    changes: dict[str, float] = {}
    if settings.updates is not None:
        changes["updates"] = max(1, round(settings.updates * intensity))
    if settings.epochs is not None:
        changes["epochs"] = settings.epochs * intensity
    return settings.model_copy(update=changes)
