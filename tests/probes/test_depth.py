"""Layers have one number everywhere: a model whose last block alone was changed, as every probe by layers sees it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from subl import ModelRef, Subject
from subl.generators.numbers import Numbers
from subl.probes.depth import label_depth, on_axis, place_name
from subl.probes.drift import Drift
from subl.probes.lens import Lens
from subl.probes.swap import Swap
from subl.traits.preference import Preference
from tests.tiny import context, tiny_model

TRAIT = Preference(Preference.Config(target="owl", candidates=("owl", "dog", "panda"), questions=3))
CHANGED = 1


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return tiny_model(tmp_path_factory.mktemp("depth"))


@pytest.fixture(scope="module")
def changed(base: ModelRef, tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    path = tmp_path_factory.mktemp("changed")
    lm = context(path).load(base, fresh=True)
    torch.manual_seed(2)
    with torch.no_grad():
        for weight in lm.model.model.layers[CHANGED].parameters():
            weight.add_(0.5 * torch.randn_like(weight) * weight.abs().mean())
    lm.model.save_pretrained(path)
    lm.tokenizer.save_pretrained(path)
    return base.derive("changed", path=path)


def test_lens_finds_the_changed_layer(base: ModelRef, changed: ModelRef, tmp_path: Path) -> None:
    settings = Lens.Config(numbers=(5, 20), k=2, contexts=2, questions=2, placebos=2, resamples=100)
    found = Lens(settings).probe(Subject("student", changed, base=base), context(tmp_path, trait=TRAIT))
    change = {row[0]: row[5] for row in found.tables["depth"].rows}
    assert change["embeddings"] == change["after layer 0"] == 0
    assert change["after layer 1"] != 0
    changes = {row[:2]: row[6] for row in found.tables["parts"].rows}
    assert changes["attention", 1] != 0
    heads = {row[:2]: row[6] for row in found.tables["heads"].rows}
    assert any(heads[1, head] != 0 for head in range(4))
    # Only a margin that rises has its largest step where it changes at all.
    assert found.measures["margin_change"].value > 0
    assert found.measures["rise_in_layer"].value == CHANGED
    assert found.measures["layers_to_half"].value == CHANGED + 1


def test_drift_finds_the_changed_layer(base: ModelRef, changed: ModelRef, tmp_path: Path) -> None:
    ctx = context(tmp_path, trait=TRAIT, generator=Numbers(Numbers.Config(phrasing="brief")))
    found = Drift(Drift.Config(draws=100, resamples=100, sample=16)).probe(
        Subject("student", changed, base, changed, base), ctx
    )
    moved = {row[1]: row[7] for row in found.tables["layers"].rows}
    assert moved["embeddings"] == moved["after layer 0"] == 0
    assert moved["after layer 1"] > 0
    assert found.measures["peak_after_layer"].value == CHANGED


def test_swap_finds_the_changed_layer(base: ModelRef, changed: ModelRef, tmp_path: Path) -> None:
    found = Swap(Swap.Config(parts=())).probe(Subject("student", changed, base=base), context(tmp_path, trait=TRAIT))
    measured = {name for name in found.measures if "layer" in name}
    assert measured
    assert all(f"layer_{CHANGED}_" in name for name in measured)
    value = {name: measure.value for name, measure in found.measures.items()}
    assert value["with_layer_1_margin"] == pytest.approx(value["margin"], abs=1e-5)


def test_axes_number_layers_as_tables_do() -> None:
    assert [place_name(place) for place in range(3)] == ["embeddings", "after layer 0", "after layer 1"]
    axes = Figure().subplots()
    for places in (3, 33):
        label_depth(axes.xaxis, places)
        ticks = dict(zip([text.get_text() for text in axes.get_xticklabels()], axes.get_xticks(), strict=True))
        assert ticks["emb."] == on_axis(places)[0]
        numbered = {text: place for text, place in ticks.items() if text != "emb."}
        assert all(
            place_name(int(np.flatnonzero(on_axis(places) == at)[0])) == f"after layer {text}"
            for text, at in numbered.items()
        )
        assert len(numbered) <= 12
