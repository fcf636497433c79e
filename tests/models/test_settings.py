"""Settings say what is wrong with a combination, and leave execution out of fingerprints."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from subl.models.settings import LoraSettings, SamplingSettings, TrainSettings
from subl.registry.config import semantic


def test_setting_one_length_unsets_the_other_also_below_a_plugin_s_default() -> None:
    class Inducer(TrainSettings):
        updates: int | None = 60
        epochs: float | None = None

    assert (TrainSettings().updates, TrainSettings().epochs) == (None, 3.0)
    assert (TrainSettings(updates=5).updates, TrainSettings(updates=5).epochs) == (5, None)
    assert (Inducer().updates, Inducer().epochs) == (60, None)
    assert (Inducer(epochs=2).updates, Inducer(epochs=2).epochs) == (None, 2.0)
    assert Inducer.model_validate(Inducer(epochs=2).model_dump()) == Inducer(epochs=2)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"updates": 3, "epochs": 1}, "not both"),
        ({"updates": None, "epochs": None}, "set one of"),
        ({"updates": 0}, "greater than 0"),
        ({"batch_size": 8, "micro_batch_size": 3}, "3 does not divide batch_size 8"),
        ({"betas": (0.9, 1.0)}, r"betas must lie in \[0, 1\)"),
        ({"layers": (3, 1)}, r"layers must be \[first, last\]"),
        ({"layers": (-1, 1)}, r"layers must be \[first, last\]"),
        ({"warmup": 1.0}, "less than 1"),
        ({"scheduler": "cosin"}, "cosine"),
        ({"learning_rte": 1}, "Extra inputs"),
    ],
)
def test_impossible_settings_are_explained(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TrainSettings(**settings)


def test_targets_may_not_be_empty() -> None:
    with pytest.raises(ValidationError, match="targets is empty"):
        LoraSettings(targets=())


def test_settings_of_execution_do_not_enter_fingerprints() -> None:
    slow = TrainSettings(micro_batch_size=2, gradient_checkpointing=True, checkpoint_every=7, log_every=3)
    assert semantic(slow) == semantic(TrainSettings())
    assert semantic(TrainSettings(batch_size=8)) != semantic(TrainSettings())


@pytest.mark.parametrize("settings", [TrainSettings, LoraSettings, SamplingSettings])
def test_every_field_is_documented(settings: Any) -> None:
    assert all(field.description for field in settings.model_fields.values())


@pytest.mark.parametrize("setting", [{"temperature": 0.5}, {"top_p": 0.9}, {"top_k": 5}])
def test_greedy_sampling_refuses_what_it_would_ignore(setting: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="does nothing with greedy = true"):
        SamplingSettings(greedy=True, **setting)
    assert SamplingSettings(greedy=True, max_new_tokens=5).greedy
