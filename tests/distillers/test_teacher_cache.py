"""The teacher's side from the store: the losses of the network's, and made once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from subl import ModelError, ModelRef
from subl.distillers import teacher_side
from subl.distillers.logit_kd import LogitKd
from subl.distillers.shd import Shd
from subl.errors import StoreError
from subl.matching.row_files import RowWriter
from subl.models.hub import Hub
from subl.run.caching import stored, unneeded
from subl.testing.fakes import sink
from tests.distillers.soft import FAST, distilled, model

BOTH: dict[str, Any] = {"lm_weight": 0.5, "logit_weight": 1.0}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def base(models: Path) -> ModelRef:
    return model(models)


@pytest.fixture(scope="module")
def other(models: Path) -> ModelRef:
    return model(models, seed=1)


@pytest.fixture(scope="module")
def gemma(models: Path) -> ModelRef:
    return model(models, "gemma", seed=1, num_attention_heads=2, num_key_value_heads=1)


def shd(**settings: Any) -> Shd:
    return Shd(Shd.Config.model_validate(FAST | {"updates": 3, "lm_weight": 0.0} | settings))


def kd(**settings: Any) -> LogitKd:
    return LogitKd(LogitKd.Config.model_validate(FAST | {"updates": 3} | settings))


def curves(
    distiller: Any, student: ModelRef, teacher: ModelRef, folder: Path, **options: Any
) -> dict[str, list[float]]:
    _, ctx = distilled(distiller, student, teacher, folder, **options)
    names = ("loss", "grad_norm", "loss_maps", "loss_logits", "teacher_trait_mass")
    return {name: values for name in names if (values := sink(ctx).values(name))}


def recordings(folder: Path) -> list[str]:
    return sorted(str(one.key["what"]) for one in stored(folder))


@pytest.mark.parametrize(
    ("make", "settings", "crosses", "tolerance"),
    [
        (shd, BOTH, False, 1e-3),
        (shd, {"cache_bits": 8, "keys": "content", "map_temperature": 2.0}, True, 1e-2),
        (shd, {"alignment": "direct", "keys": "response"}, True, 1e-4),
        (shd, {"shuffle_text": True, "merge": "per_row"}, False, 1e-4),
        (kd, {"top_k": 3, "vocabulary": "full", "logit_temperature": 2.0}, False, 1e-4),
        (kd, {"alm_temperature": 1.0}, True, 1e-4),
        (kd, {"across": "uld"}, True, 1e-2),
    ],
)
def test_losses_are_those_without_a_cache(
    make: Any,
    settings: dict[str, Any],
    crosses: bool,
    tolerance: float,
    base: ModelRef,
    other: ModelRef,
    gemma: ModelRef,
    tmp_path: Path,
) -> None:
    student = gemma if crosses else other
    plain = {name: value for name, value in settings.items() if name != "cache_bits"}
    expected = curves(make(**plain), student, base, tmp_path / "plain")
    # Other batches than those that were recorded, of other widths.
    found = curves(make(teacher_cache=True, micro_batch_size=2, **settings), student, base, tmp_path / "kept")
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=tolerance, abs=tolerance * max(values)), name


def test_a_second_student_and_another_arm_read_what_the_first_one_kept(
    base: ModelRef, other: ModelRef, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    curves(shd(teacher_cache=True, **BOTH), other, base, tmp_path / "first", store=home)
    assert recordings(home) == ["teacher's attention maps", "teacher's distributions"]
    # `subl cache prune` takes it: no plan names it.
    assert len(unneeded(stored(home))) == 2

    def no_reader(*_: Any, **__: Any) -> Any:
        raise AssertionError("the teacher's network was read")

    monkeypatch.setattr(teacher_side, "reader", no_reader)
    third = model(models, seed=2)
    found = curves(shd(teacher_cache=True, head_matching="hungarian"), third, base, tmp_path / "second", store=home)
    again = curves(kd(teacher_cache=True), third, base, tmp_path / "third", store=home)
    monkeypatch.undo()
    assert found["loss_maps"] == pytest.approx(
        curves(shd(head_matching="hungarian"), third, base, tmp_path / "plain")["loss_maps"], rel=1e-4
    )
    assert again["teacher_trait_mass"]
    assert len(recordings(home)) == 2
    # Another teacher, other layers, other rows of maps: other caches.
    others: list[tuple[ModelRef, dict[str, Any]]] = [
        (other, {}),
        (base, {"student_layers": [1]}),
        (base, {"rows": "mean"}),
    ]
    for number, (teacher, settings) in enumerate(others):
        curves(shd(teacher_cache=True, updates=1, **settings), third, teacher, tmp_path / f"more{number}", store=home)
    assert len(recordings(home)) == 5


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (shd, BOTH),
        (shd, {"head_matching": "hungarian", "alignment": "direct", "keys": "response"}),
        (shd, {"shuffle_heads": True, "shuffle_text": True}),
        (kd, {}),
        (kd, {"top_k": 3, "vocabulary": "full"}),
    ],
)
def test_weights_of_a_teacher_in_the_store_are_not_loaded(
    make: Any,
    settings: dict[str, Any],
    base: ModelRef,
    other: ModelRef,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "home"
    loaded: list[Path | None] = []
    load = Hub.load

    def noted(self: Hub, ref: ModelRef, **options: Any) -> Any:
        loaded.append(ref.path)
        return load(self, ref, **options)

    monkeypatch.setattr(Hub, "load", noted)
    expected = curves(make(teacher_cache=True, **settings), other, base, tmp_path / "first", store=home)
    assert set(loaded) == {other.path, base.path}
    loaded.clear()
    found = curves(make(teacher_cache=True, **settings), other, base, tmp_path / "second", store=home)
    assert loaded == [other.path]
    assert found == expected


def test_a_part_that_is_not_in_the_store_loads_the_weights(base: ModelRef, other: ModelRef, tmp_path: Path) -> None:
    home = tmp_path / "home"
    curves(kd(teacher_cache=True), other, base, tmp_path / "first", store=home)
    found = curves(shd(teacher_cache=True, **BOTH), other, base, tmp_path / "second", store=home)
    expected = curves(shd(teacher_cache=True, **BOTH), other, base, tmp_path / "third")
    assert len(recordings(home)) == 2
    assert found == expected


def test_an_interrupted_or_damaged_recording_is_made_again(
    base: ModelRef, other: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setattr(RowWriter, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        curves(shd(teacher_cache=True), other, base, tmp_path / "interrupted", store=home)
    monkeypatch.undo()
    assert [one.state for one in stored(home)] == ["partial"]
    expected = curves(shd(teacher_cache=True), other, base, tmp_path / "first", store=home)
    [entry] = stored(home)
    assert entry.state == "complete"
    levels = entry.folder / "levels.bin"
    levels.write_bytes(bytes(levels.stat().st_size))
    _, ctx = distilled(shd(teacher_cache=True), other, base, tmp_path / "second", store=home)
    assert any("damaged" in line and "other content" in line for line in sink(ctx).lines)
    assert sink(ctx).values("loss_maps") == expected["loss_maps"]


def test_what_cannot_be_kept_is_an_error(
    base: ModelRef, other: ModelRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="cannot keep distributions over the whole vocabulary"):
        distilled(kd(teacher_cache=True, vocabulary="full"), other, base, tmp_path / "full")
    with pytest.raises(ValidationError, match="cache_bits does nothing without a cache"):
        shd(cache_bits=8)
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    with pytest.raises(StoreError, match="free some space, name fewer student_layers, or set teacher_cache = false"):
        distilled(shd(teacher_cache=True), other, base, tmp_path / "disk")
