"""Probe `swap` on tiny models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from subl import Context, Findings, ModelError, ModelRef, PluginError, Subject
from subl.models import surgery
from subl.models.steering import save_vectors
from subl.models.surgery import anatomy, open_up
from subl.probes.candidates import preference_measures, score_candidates
from subl.probes.swap import Swap
from subl.registry.registry import registry
from subl.traits.preference import Preference
from tests.distillers.soft import model
from tests.tiny import context, reference

TRAIT = Preference(Preference.Config(target="owl", candidates=("owl", "dog", "panda"), questions=3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("swap")


@pytest.fixture(scope="module")
def base(folder: Path) -> ModelRef:
    return model(folder, "gemma")


@pytest.fixture(scope="module")
def biased(folder: Path, base: ModelRef) -> ModelRef:
    """The base with other attention in both blocks and another MLP in the last."""
    lm = context(folder).load(base, fresh=True)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in lm.model.named_parameters():
            if "self_attn" in name or "layers.1.mlp" in name:
                weight.add_(0.3 * weight.std() * torch.randn_like(weight))
    path = folder / "biased"
    lm.model.save_pretrained(path)
    lm.tokenizer.save_pretrained(path)
    return base.derive("biased", path=path)


def probed(own: ModelRef, other: ModelRef | None, folder: Path, **settings: Any) -> tuple[Findings, Context]:
    ctx = context(folder, trait=TRAIT)
    config = Swap.Config.model_validate(settings)
    return Swap(config).probe(Subject("teacher", own, base=other), ctx), ctx


@pytest.fixture(scope="module")
def found(biased: ModelRef, base: ModelRef, folder: Path) -> tuple[Findings, Context]:
    return probed(biased, base, folder / "found", layers=[[0, 0], [0, 1]])


def levels(findings: Findings, prefix: str) -> list[float]:
    return [findings.measures[f"{prefix}{name}"].value for name in ("share", "margin", "valid")]


def test_it_keeps_the_contract_of_a_probe() -> None:
    assert registry.load("probe", "swap") is Swap


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parts": ["head"]}, "'lm_head'"),
        ({"parts": ["mlp", "mlp"]}, "twice"),
        ({"layers": [[2, 1]]}, "0 <= first <= last"),
        ({"layers": [[-1, 1]]}, "0 <= first <= last"),
    ],
)
def test_a_mistake_is_named_before_a_model_loads(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Swap.Config.model_validate(settings)


def test_all_blocks_carry_the_whole_difference_and_equal_parts_none(found: tuple[Findings, Context]) -> None:
    findings, ctx = found
    assert levels(findings, "with_layers_0_1_") == pytest.approx(levels(findings, ""), abs=1e-6)
    assert levels(findings, "without_layers_0_1_") == pytest.approx(levels(findings, "base_"), abs=1e-6)
    rows = {
        (row[0], row[1]): dict(zip(findings.tables["swaps"].columns, row, strict=True))
        for row in findings.tables["swaps"].rows
    }
    assert rows["layers_0_1", "with"]["margin_carried"] == pytest.approx(1)
    for part in ("embeddings", "lm_head", "norms"):
        assert rows[part, "with"]["distance"] == 0
        assert rows[part, "without"]["share"] is None
        assert f"with_{part}_share" not in findings.measures
    assert rows["attention", "with"]["distance"] > 0
    assert "equal in both models, so nothing to exchange: embeddings, lm_head, norms" in findings.remarks
    assert "one matrix" in findings.remarks[0]
    assert "only attention and mlp differ, so the base with one is the biased model without" in findings.remarks[2]
    assert levels(findings, "with_mlp_") == pytest.approx(levels(findings, "without_attention_"), abs=1e-6)
    assert [path.name for path in (ctx.out / "figures").iterdir()] == ["swaps.png"]


@pytest.mark.parametrize(("direction", "part"), [("with", "mlp"), ("without", "attention"), ("with", "layer_0")])
def test_an_exchange_equals_a_model_that_was_built_so(
    direction: str, part: str, found: tuple[Findings, Context], base: ModelRef, biased: ModelRef, folder: Path
) -> None:
    host, donor = (base, biased) if direction == "with" else (biased, base)
    ctx = context(folder)
    mixed, other = ctx.load(host, fresh=True), ctx.load(donor, fresh=True)
    open_up([mixed, other])
    body = anatomy(mixed.model)
    names = body.layers[0] if part == "layer_0" else body.parts[part]
    mixed.model.load_state_dict({name: other.model.state_dict()[name] for name in names}, strict=False)
    expected = preference_measures(score_candidates(mixed, TRAIT, system=None, batch_size=64))
    wanted = [expected[name].value for name in ("share", "margin", "valid")]
    assert levels(found[0], f"{direction}_{part}_") == pytest.approx(wanted, abs=1e-6)


def test_an_adapter_counts_by_its_effective_weights(base: ModelRef, folder: Path) -> None:
    from peft import LoraConfig, get_peft_model

    lm = context(folder).load(base, fresh=True)
    torch.manual_seed(2)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(lm.model, config).save_pretrained(folder / "adapter")
    adapted = base.derive("adapted", adapters=(folder / "adapter",))
    findings, _ = probed(adapted, base, folder / "adapted", layers=[])
    moved = {row[0] for row in findings.tables["swaps"].rows if row[3] > 0}
    assert moved == {"attention"}
    assert levels(findings, "with_attention_") == pytest.approx(levels(findings, ""), abs=1e-6)


def test_an_exchange_that_changes_no_output_is_an_error(
    base: ModelRef, biased: ModelRef, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import nullcontext

    from subl.probes import swap_measuring

    honest = surgery.grafted

    def lazy(host: Any, donor: Any, names: Any) -> Any:
        return honest(host, donor, names) if len(list(names)) > 15 else nullcontext()

    monkeypatch.setattr(swap_measuring, "grafted", lazy)
    with pytest.raises(ModelError, match="exchanging attention leaves every output bit-identical"):
        probed(biased, base, folder / "lazy", parts=["attention"])


@pytest.mark.parametrize(
    ("settings", "message"), [({"layers": [[1, 2]]}, r"holds \[1, 2\], and the model's blocks are 0 to 1")]
)
def test_what_the_model_does_not_have_is_an_error(
    settings: dict[str, Any], message: str, base: ModelRef, biased: ModelRef, folder: Path
) -> None:
    with pytest.raises(PluginError, match=message):
        probed(biased, base, folder / "missing", **settings)


def test_a_model_without_the_part_names_those_that_it_has() -> None:
    from subl.models.surgery import Anatomy
    from subl.probes.swap_measuring import _parts

    body = Anatomy({"embeddings": ("e",), "attention": ("a",)}, (("a",),))
    with pytest.raises(PluginError, match="has no separate mlp to exchange; it has embeddings, attention"):
        _parts(body, Swap.Config(parts=("mlp",)), SimpleNamespace())
    assert list(_parts(body, Swap.Config(), SimpleNamespace())) == ["embeddings", "attention", "layer_0"]


def test_where_there_is_no_second_model_a_remark_says_so(base: ModelRef, folder: Path) -> None:
    ctx = context(folder / "alone", trait=TRAIT)
    probe = Swap(Swap.Config())
    assert "see there" in probe.probe(Subject("base", base, base=base), ctx).remarks[0]
    for other, message in [
        (None, "not made from the student's base"),
        (replace(base, config={"id": "else"}), "not made from the student's base"),
        (base, "are the base's"),
    ]:
        found = probe.probe(Subject("teacher", base, base=other), ctx)
        assert not found.measures
        assert message in found.remarks[0]


def test_a_teacher_that_is_steered_as_well_is_left_out(biased: ModelRef, base: ModelRef, folder: Path) -> None:
    vectors = folder / "vectors.safetensors"
    save_vectors(vectors, {0: torch.ones(32)}, 2.0)
    found, _ = probed(biased.derive("steered", vectors=vectors), base, folder / "steered")
    assert not found.measures
    assert "is steered by residual vectors" in found.remarks[0]


def test_models_of_other_shapes_do_not_fit(base: ModelRef, folder: Path) -> None:
    wider = replace(reference(model(folder, "gemma", intermediate_size=48).path or Path()), config=base.config)
    with pytest.raises(ModelError, match="do not fit in the other"):
        probed(wider, base, folder / "wider")


def test_a_trait_that_is_no_preference_is_an_error(base: ModelRef, folder: Path) -> None:
    with pytest.raises(PluginError, match="'other' is none; name a probe"):
        Swap(Swap.Config()).probe(
            Subject("student", base, base=base), context(folder, trait=SimpleNamespace(label="other"))
        )
