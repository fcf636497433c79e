"""Step 1 of `entanglement` is measured once, whoever asks for it."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subl import Context, ModelRef, Subject
from subl.models.language import LanguageModel
from subl.probes import number_sets
from subl.probes.entanglement import Entanglement
from subl.probes.entanglement_steps import StepOne, step_one
from subl.probes.entanglement_wording import Wording
from subl.probes.geometry import Geometry
from subl.probes.lens import Lens
from subl.probes.number_sets import read_numbers, reader_of, sets_of
from subl.probes.number_settings import NumberSettings
from subl.traits.preference import Preference
from tests.tiny import context, tiny_model

TRAIT = Preference(Preference.Config(target="owl", candidates=("owl", "dog", "panda"), questions=3))
SMALL: dict[str, Any] = {"numbers": [5, 20], "k": 2, "contexts": 2, "questions": 2, "placebos": 2}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return tiny_model(tmp_path_factory.mktemp("model"), "gemma")


@pytest.fixture(scope="module")
def lm(base: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    loaded: LanguageModel = context(tmp_path_factory.mktemp("load")).load(base)
    return loaded


def passes(lm: LanguageModel, probe: Any, subject: Subject, ctx: Context) -> int:
    """Run a probe and return how often it ran the model."""
    model: Any = lm.model
    ran: list[int] = []
    handle = model.register_forward_pre_hook(lambda *_: ran.append(1))
    try:
        probe.probe(subject, ctx)
    finally:
        handle.remove()
    return len(ran)


def test_the_second_probe_reads_step_one_and_does_not_run_the_model_for_it(
    base: ModelRef, lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Context, "figure", lambda *_: None)
    stages = iter(range(10))

    def within(store: str) -> Context:
        return context(tmp_path / str(next(stages)), trait=TRAIT, loaded=lm, store=tmp_path / store)

    geometry = Geometry(Geometry.Config.model_validate(SMALL | {"permutations": 100}))
    lens = Lens(Lens.Config.model_validate(SMALL | {"resamples": 100}))
    entanglement = Entanglement(
        Entanglement.Config.model_validate(SMALL | {"permutations": 100, "cumulative": [2], "cumulative_draws": 2})
    )
    subject = Subject("base", base, base=base)
    alone = {
        probe: passes(lm, probe, subject, within(type(probe).__name__)) for probe in (geometry, lens, entanglement)
    }
    assert min(alone.values()) > 0
    # All that geometry runs the model for is step 1.
    assert passes(lm, geometry, subject, within("Lens")) == 0
    assert passes(lm, geometry, replace(subject, role="student"), within("Entanglement")) == 0
    assert passes(lm, lens, subject, within("Entanglement")) == alone[lens] - alone[geometry]
    assert passes(lm, entanglement, subject, within("Geometry")) == alone[entanglement] - alone[geometry]


def test_what_is_read_is_bit_for_bit_what_was_measured(base: ModelRef, tmp_path: Path) -> None:
    config, ctx = NumberSettings.model_validate(SMALL), context(tmp_path)
    wording = Wording.of(TRAIT, config)
    measured = step_one(reader_of(base, wording, config, ctx), wording, config)
    for _ in range(2):
        assert_same(read_numbers(base, wording, config, ctx), measured)


def assert_same(one: StepOne, other: StepOne) -> None:
    sets = [(getattr(one.sets, name), getattr(other.sets, name)) for name in ("hp", "lp", "unch")]
    values = [
        (getattr(one, field.name), getattr(other, field.name)) for field in fields(StepOne) if field.name != "sets"
    ]
    for own, theirs in (*values, *sets):
        assert type(own) is type(theirs)
        if isinstance(own, np.ndarray):
            assert (own.dtype, own.tobytes("A")) == (theirs.dtype, theirs.tobytes("A"))
            # Sums round by the order in memory.
            assert own.strides == theirs.strides or own.dtype == np.int64
        else:
            assert own == theirs


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One item for every time that step 1 is measured."""
    times: list[int] = []

    def counted(*given: Any) -> StepOne:
        times.append(1)
        return step_one(*given)

    monkeypatch.setattr(number_sets, "step_one", counted)
    return times


@pytest.mark.parametrize("probe", [Geometry, Lens, Entanglement])
def test_settings_of_the_probe_alone_ask_for_nothing_new(
    probe: Any, base: ModelRef, lm: LanguageModel, tmp_path: Path, measured: list[int]
) -> None:
    ctx = context(tmp_path, loaded=lm)
    own = {"k": 2, "cumulative": [2]} if probe is Entanglement else {}
    for config in (NumberSettings.model_validate(SMALL), probe.Config.model_validate(SMALL | own)):
        sets_of(base, TRAIT, config, ctx)
    assert len(measured) == 1


OTHERS: dict[str, Any] = {
    "numbers": [5, 21],
    "padded": True,
    "method": "vocabulary",
    "k": 3,
    "change": "difference",
    "against": "controls",
    "contexts": 3,
    "questions": 3,
    "placebos": 3,
    "target_phrase": "an {target}",
    "number_phrase": "number {number}",
    "batch_size": 7,
}


def test_every_setting_is_part_of_the_key(
    base: ModelRef, lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(OTHERS) == set(NumberSettings.model_fields)
    keys = [keyed(base, TRAIT, NumberSettings.model_validate(SMALL), context(tmp_path, loaded=lm), monkeypatch)]
    for name, value in OTHERS.items():
        config = NumberSettings.model_validate(SMALL | {name: value})
        keys.append(keyed(base, TRAIT, config, context(tmp_path, loaded=lm), monkeypatch))
    assert len(set(keys)) == 1 + len(OTHERS)


def test_model_trait_system_slot_and_precision_are_part_of_the_key(
    base: ModelRef, lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = NumberSettings.model_validate(SMALL)
    ctx = context(tmp_path, loaded=lm)
    half = context(tmp_path, loaded=context(tmp_path / "half").load(base, fresh=True))
    half.load(base).model.to(torch.bfloat16)
    # The same words, the target and a control exchanged: only their order tells.
    other = Preference(Preference.Config(target="dog", candidates=("owl", "dog", "panda"), questions=3))
    keys = [
        keyed(base, TRAIT, config, ctx, monkeypatch),
        keyed(base.derive("other weights"), TRAIT, config, ctx, monkeypatch),
        keyed(base, other, config, ctx, monkeypatch),
        keyed(base, TRAIT, config, context(tmp_path, loaded=lm, system="Be brief."), monkeypatch),
        keyed(replace(base, system="Be brief, please."), TRAIT, config, ctx, monkeypatch),
        keyed(base, TRAIT, config, half, monkeypatch),
    ]
    assert len(set(keys)) == len(keys)
    assert keyed(base, TRAIT, config, ctx, monkeypatch) == keys[0]


def keyed(base: ModelRef, trait: Any, config: NumberSettings, ctx: Context, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that would be shared, without measuring."""
    with monkeypatch.context() as patched:
        patched.setattr(number_sets, "_save", lambda *_: None)
        patched.setattr(number_sets, "step_one", lambda *_: None)
        patched.setattr(number_sets, "_load", lambda folder: folder)
        folder: Any = sets_of(base, trait, config, ctx).one
    return Path(folder)
