"""Maps taken inside the attention call, against transformers' own eager maps; and that nothing else changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from subl.errors import ModelError
from subl.matching.squeezing import output_gram, plan_heads, squeeze
from subl.models.attention import (
    attention_module,
    check_tap,
    head_counts,
    log_maps,
    output_projection,
    tapped,
)

ARCHITECTURES = {
    "mistral": (MistralConfig, MistralForCausalLM),
    "gemma": (GemmaConfig, GemmaForCausalLM),
    "gemma2": (Gemma2Config, Gemma2ForCausalLM),
}
IDS = torch.arange(3, 17).reshape(2, 7)
MASK = torch.tensor([[1] * 7, [0, 0, 0, 1, 1, 1, 1]])
ROWS = torch.tensor([[2, 5], [4, 6]])


def network(architecture: str = "mistral", **sizes: Any) -> Any:
    config, model = ARCHITECTURES[architecture]
    shape = {
        "vocab_size": 20,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "initializer_range": 0.1,
    }
    torch.manual_seed(0)
    return model(config(**(shape | sizes))).eval()


def eager_maps(model: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        out = model(IDS, attention_mask=MASK, output_attentions=True, use_cache=False)
    model.set_attn_implementation(before)
    return out.logits, out.attentions


def taken(model: Any, layers: list[int], rows: Tensor = ROWS) -> tuple[Tensor, Mapping[int, Any]]:
    with tapped(model, layers, lambda _layer, watched, values: (watched.log_maps(), values)) as tap:
        tap.watch(rows)
        out = model(input_ids=IDS, attention_mask=MASK, use_cache=False)
        return out.logits, tap.take()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_wanted_rows_of_the_wanted_layers_are_the_eager_maps_and_logits_do_not_change(architecture: str) -> None:
    model = network(architecture)
    before = model.config._attn_implementation
    logits, maps = eager_maps(model)
    # The second text is padded on the left: without a mask function it would attend to its padding.
    own_logits, seen = taken(model, [0, 2])
    torch.testing.assert_close(own_logits[MASK.bool()], logits[MASK.bool()], atol=1e-6, rtol=0)
    assert list(seen) == [0, 2]
    for layer, (logs, _values) in seen.items():
        expected = maps[layer].gather(2, ROWS[:, None, :, None].expand(-1, 4, -1, 7))
        torch.testing.assert_close(logs.exp(), expected, atol=1e-6, rtol=0)
    assert model.config._attn_implementation == before
    assert not hasattr(attention_module(model, 0), "subl_tap")


def test_squeezing_inside_the_call_equals_squeezing_the_eager_maps() -> None:
    model = network()
    plan = plan_heads(4, 2, kv_heads=2)
    _, maps = eager_maps(model)
    _, seen = taken(model, [1])
    logs, values = seen[1]
    gram = output_gram(output_projection(attention_module(model, 1)), plan)
    whole = maps[1].gather(2, ROWS[:, None, :, None].expand(-1, 4, -1, 7))
    torch.testing.assert_close(squeeze(logs.exp(), values, gram).maps, squeeze(whole, values, gram).maps)


@pytest.mark.parametrize("scaling", [None, 0.7])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("kind", ["causal", "boolean", "additive"])
def test_maps_equal_a_softmax_worked_out_in_float64(scaling: float | None, softcap: float | None, kind: str) -> None:
    draw = torch.Generator().manual_seed(1)
    query = torch.randn(2, 4, 5, 8, generator=draw, dtype=torch.float64)
    key = torch.randn(2, 2, 5, 8, generator=draw, dtype=torch.float64)
    visible = torch.ones(5, 5, dtype=torch.bool).tril().expand(2, 1, 5, 5).clone()
    if kind != "causal":
        visible[1, :, :, :2] = False
        visible[1, :, :2, 0] = True
    mask = {"causal": None, "boolean": visible, "additive": (~visible).double() * torch.finfo(torch.float64).min}[kind]
    rows = torch.tensor([[0, 3], [2, 4]])
    seen = log_maps(query, key, mask, rows, scaling=scaling, softcap=softcap)
    for sample in range(2):
        for head in range(4):
            scores = query[sample, head] @ key[sample, head // 2].T * (8**-0.5 if scaling is None else scaling)
            scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
            expected = scores.masked_fill(~visible[sample, 0], -torch.inf).softmax(-1)[rows[sample]]
            torch.testing.assert_close(seen[sample, head].exp(), expected, atol=1e-12, rtol=0)
    assert bool(seen.isfinite().all())


def gradients(model: Any, *, checkpointing: bool) -> dict[str, Tensor]:
    model.train()
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    with tapped(model, [1, 2], lambda _layer, watched, _values: watched.log_maps().exp()) as tap:
        tap.watch(ROWS)
        out = model(input_ids=IDS, attention_mask=MASK, use_cache=False)
        maps = tap.take()
        loss = sum(maps[layer][..., 0].square().sum() for layer in (1, 2)) + out.logits[MASK.bool()].square().mean()
        loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def test_gradient_checkpointing_changes_no_gradient() -> None:
    plain, checkpointed = gradients(network(), checkpointing=False), gradients(network(), checkpointing=True)
    assert plain.keys() == checkpointed.keys()
    assert float(plain["model.layers.2.self_attn.k_proj.weight"].abs().sum()) > 0
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-6, rtol=1e-5)


def test_reentrant_checkpointing_is_refused() -> None:
    model = network()
    model.train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    with (
        pytest.raises(ModelError, match=r"reentrant gradient checkpointing cuts .*use_reentrant"),
        tapped(model, [0], lambda *_: None),
    ):
        pass


def test_an_unmerged_adapter_is_part_of_the_output_projection() -> None:
    model = get_peft_model(network(), LoraConfig(r=2, target_modules=["o_proj"], init_lora_weights=False))
    seen = output_projection(attention_module(model, 1))
    plain = output_projection(attention_module(network(), 1))
    merged = output_projection(attention_module(model.merge_and_unload(), 1))
    torch.testing.assert_close(seen, merged)
    assert float((seen - plain).abs().max()) > 1e-3


def test_a_model_with_an_adapter_is_tapped_and_counted_like_its_base() -> None:
    plain = network()
    model = get_peft_model(network(), LoraConfig(r=2, target_modules=["q_proj"]))
    assert head_counts(model) == head_counts(plain) == (4, 2)
    torch.testing.assert_close(taken(model, [1])[1][1][0], taken(plain, [1])[1][1][0])


def test_the_self_test_passes_for_attention_and_fails_for_maps_that_nothing_changes() -> None:
    model = network()
    check_tap(model, [0, 1, 2], IDS[:1])
    torch.nn.init.zeros_(model.model.layers[1].self_attn.k_proj.weight)
    check_tap(model, [0, 2], IDS[:1])
    with pytest.raises(ModelError, match="the attention map of layer 1 does not change with its input"):
        check_tap(model, [0, 1], IDS[:1])


def test_a_layer_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ModelError, match="no layer 3: MistralForCausalLM has 3, 0 to 2"):
        taken(network(), [3])


def test_a_layer_that_did_not_run_is_an_error() -> None:
    with tapped(network(), [0], lambda *_: None) as tap:
        tap.watch(ROWS)
        with pytest.raises(ModelError, match="no attention map came out of layer 0"):
            tap.take()


def test_a_model_that_is_not_watched_is_not_read() -> None:
    calls: list[int] = []
    model = network()
    with tapped(model, [0], lambda layer, _watched, _values: calls.append(layer)) as tap:
        model(IDS)
        tap.watch(ROWS)
        model(IDS)
    assert calls == [0]


def test_the_self_test_passes_in_half_precision_where_queries_and_keys_are_normalised() -> None:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=20, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    check_tap(Qwen3ForCausalLM(config).eval().bfloat16(), [0, 1], IDS[:1])
