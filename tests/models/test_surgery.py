"""Grafts and removed heads against brute force on tiny models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

from subl import ModelError
from subl.models.language import LanguageModel
from subl.models.surgery import (
    PARTS,
    all_heads,
    anatomy,
    check_alike,
    check_changed,
    distance,
    grafted,
    open_up,
    without_heads,
)
from tests.distillers.soft import model
from tests.tiny import context

IDS = torch.tensor([[5, 9, 200, 31, 77, 12]])
Load = Callable[..., LanguageModel]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("surgery")


@pytest.fixture(scope="module")
def load(folder: Path) -> Load:
    def fresh(architecture: str = "mistral", seed: int = 0, **sizes: Any) -> LanguageModel:
        lm: LanguageModel = context(folder).load(model(folder, architecture, seed=seed, **sizes), fresh=True)
        return lm

    return fresh


def logits(lm: LanguageModel) -> Tensor:
    with torch.inference_mode():
        out: Tensor = lm.model(input_ids=IDS).logits
    return out


def with_adapter(lm: LanguageModel, *, seed: int = 3) -> LanguageModel:
    """Lay a random adapter on all linear layers, beside the weights."""
    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    return replace(lm, model=get_peft_model(lm.model, config).eval())


# Opening up.


@pytest.mark.parametrize(("architecture", "tied"), [("gemma", True), ("mistral", False)])
def test_opening_up_changes_nothing_that_is_computed_and_says_whether_a_head_was_tied(
    architecture: str, tied: bool, load: Load
) -> None:
    lm = load(architecture)
    before = logits(lm)
    assert open_up([lm]) is tied
    assert torch.equal(logits(lm), before)
    network: Any = lm.model
    head, embeddings = network.get_output_embeddings().weight, network.get_input_embeddings().weight
    assert head.data_ptr() != embeddings.data_ptr()
    assert open_up([lm]) is False


def test_an_adapter_becomes_part_of_float32_weights_in_every_model(load: Load) -> None:
    adapted, plain = with_adapter(load()), load()
    adapted.model, plain.model = adapted.model.bfloat16(), plain.model.bfloat16()
    expected = logits(replace(adapted, model=with_adapter(load()).model))
    open_up([adapted, plain])
    assert {p.dtype for lm in (adapted, plain) for p in lm.model.parameters()} == {torch.float32}
    assert not hasattr(adapted.model, "peft_config")
    # The weights went through bfloat16 once, the update was not rounded again.
    assert torch.allclose(logits(adapted), expected, atol=0.05 * float(expected.abs().max()))


def test_quantized_weights_are_refused(load: Load) -> None:
    lm = load()
    lm.model.is_loaded_in_4bit = True
    with pytest.raises(ModelError, match='quantization = "none"'):
        open_up([lm])


# Anatomy.


@pytest.mark.parametrize("architecture", ["gemma", "mistral"])
def test_parts_and_blocks_divide_all_weights(architecture: str, load: Load) -> None:
    lm = load(architecture, num_hidden_layers=3)
    open_up([lm])
    found = anatomy(lm.model)
    everything = sorted(lm.model.state_dict())
    assert sorted(name for names in found.parts.values() for name in names) == everything
    assert tuple(found.parts) == PARTS
    outside = [name for name in everything if "layers." not in name]
    assert sorted(name for names in found.layers for name in names) == sorted(set(everything) - set(outside))
    assert found.parts["lm_head"] == ("lm_head.weight",)
    assert found.parts["embeddings"] == ("model.embed_tokens.weight",)
    assert all("self_attn" in name for name in found.parts["attention"])
    assert all(".mlp." in name for name in found.parts["mlp"])
    assert len(found.layers) == 3


# Grafts.


def test_all_parts_together_make_the_other_model_and_none_leaves_it_alone(load: Load) -> None:
    host, donor = load("gemma", 0), load("gemma", 1)
    own, other = logits(host), logits(donor)
    open_up([host, donor])
    everything = [name for names in anatomy(host.model).parts.values() for name in names]
    with grafted(host.model, donor.model, everything):
        assert torch.equal(logits(host), other)
    with grafted(host.model, donor.model, []):
        assert torch.equal(logits(host), own)
    assert torch.equal(logits(host), own)
    assert torch.equal(logits(donor), other)


@pytest.mark.parametrize("part", PARTS)
def test_one_part_equals_a_model_built_from_both(part: str, load: Load) -> None:
    host, donor = load("mistral", 0), load("mistral", 1)
    open_up([host, donor])
    # Random norms are all one: give the donor others.
    for name, weight in donor.model.named_parameters():
        if "norm" in name:
            weight.data = weight.data * 1.5
    names = anatomy(host.model).parts[part]
    mixed = load("mistral", 0)
    mixed.model.load_state_dict({n: donor.model.state_dict()[n] for n in names}, strict=False)
    with grafted(host.model, donor.model, names):
        assert torch.equal(logits(host), logits(mixed))
        assert not torch.equal(logits(host), logits(load("mistral", 0)))


def test_an_error_inside_a_graft_undoes_it(load: Load) -> None:
    host, donor = load("mistral", 0), load("mistral", 1)
    own = logits(host)
    with pytest.raises(KeyError), grafted(host.model, donor.model, anatomy(host.model).parts["mlp"]):
        raise KeyError
    assert torch.equal(logits(host), own)


def test_distance_is_relative_and_zero_only_for_equal_weights(load: Load) -> None:
    host, donor = load("mistral", 0), load("mistral", 0)
    names = anatomy(host.model).parts["mlp"]
    assert distance(host.model, donor.model, names) == 0
    for name in names:
        donor.model.state_dict()[name].mul_(1.25)
    assert distance(host.model, donor.model, names) == pytest.approx(0.25, rel=1e-6)
    assert distance(host.model, donor.model, anatomy(host.model).parts["attention"]) == 0


def test_models_of_other_shapes_are_refused_by_the_first_weight_that_does_not_fit(load: Load) -> None:
    host = load("mistral")
    check_alike(host.model, load("mistral", 1).model)
    with pytest.raises(ModelError, match=r"mlp.*\(64, 32\) and \(48, 32\); exchange parts between"):
        check_alike(host.model, load("mistral", intermediate_size=48).model)
    with pytest.raises(ModelError, match="is not there and"):
        check_alike(host.model, load("mistral", num_hidden_layers=3).model)


# Heads.


@pytest.mark.parametrize("adapted", [False, True])
def test_a_removed_head_equals_zero_columns_of_the_output_projection(adapted: bool, load: Load) -> None:
    lm = with_adapter(load("mistral")) if adapted else load("mistral")
    heads = [(0, 1), (1, 0), (1, 3)]
    before = logits(lm)
    with without_heads(lm.model, heads):
        removed = logits(lm)
    assert torch.equal(logits(lm), before)
    if adapted:
        lm.model = lm.model.merge_and_unload()
    for layer, head in heads:
        lm.model.state_dict()[f"model.layers.{layer}.self_attn.o_proj.weight"][:, 8 * head : 8 * head + 8] = 0
    assert torch.allclose(removed, logits(lm), atol=1e-5 if adapted else 1e-6)
    check_changed(before, removed, "removing heads")


def test_no_head_is_the_same_model_and_all_heads_leave_no_attention(load: Load) -> None:
    lm = load("gemma")
    before = logits(lm)
    with without_heads(lm.model, []):
        assert torch.equal(logits(lm), before)
    seen: list[Tensor] = []
    network: Any = lm.model
    for block in network.model.layers:
        block.self_attn.register_forward_hook(lambda _module, _inputs, out: seen.append(out[0]))
    assert all_heads(lm.model) == [(layer, head) for layer in range(2) for head in range(4)]
    with without_heads(lm.model, all_heads(lm.model)):
        logits(lm)
    assert len(seen) == 2
    assert not any(out.any() for out in seen)


@pytest.mark.parametrize(("head", "message"), [((0, 4), "no head 4: .* 0 to 3"), ((2, 0), "no layer 2: .* 0 to 1")])
def test_heads_that_are_not_there_are_named(head: tuple[int, int], message: str, load: Load) -> None:
    with pytest.raises(ModelError, match=message), without_heads(load().model, [head]):
        pass


def test_an_intervention_that_does_nothing_is_an_error() -> None:
    values = torch.tensor([1.0, 2.0])
    check_changed(values, values + 1e-6, "it")
    with pytest.raises(ModelError, match="removing 2 heads leaves every output bit-identical"):
        check_changed(values, values.clone(), "removing 2 heads")
