"""The residual stream, taken apart and put together again, against whole models in float64."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from subl import ModelError, ModelRef
from subl.models.language import LanguageModel
from subl.models.residual import Stream
from subl.models.states import every, mean, residuals
from subl.models.watching import in_order, named_blocks, watched_calls

PROMPTS = [[5, 6, 7, 8], [9, 8, 7], [3, 4, 5, 6, 7, 8, 9]]
HEADS, LAYERS, WIDTH = 4, 3, 32
IDS: dict[str, Any] = {"vocab_size": 60, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SHAPE: dict[str, Any] = IDS | {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
}
GROUPED = SHAPE | {"num_key_value_heads": 2, "initializer_range": 0.3}
GEMMA = GROUPED | {"head_dim": 8, "query_pre_attn_scalar": 8, "final_logit_softcapping": 5.0, "sliding_window": 8}
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**GROUPED)),
    "tied": lambda: LlamaForCausalLM(LlamaConfig(**GROUPED, tie_word_embeddings=True)),
    "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**GEMMA)),
    "cohere": lambda: CohereForCausalLM(CohereConfig(**GROUPED, logit_scale=0.1)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(**IDS, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, initializer_range=0.3)
    ),
    "neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE, initializer_range=0.3)),
    "opt": lambda: OPTForCausalLM(OPTConfig(**{**SHAPE, "ffn_dim": 48}, word_embed_proj_dim=WIDTH, init_std=0.3)),
}


def language_model(name: str) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: Any = MODELS[name]().double().eval()
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.3)
    return wrapped(network)


def wrapped(network: Any) -> Any:
    return LanguageModel(ModelRef("test", {}, "test"), network, SimpleNamespace(pad_token_id=0), None)  # type: ignore[arg-type]


def own_logits(lm: Any) -> torch.Tensor:
    with torch.no_grad():
        return torch.stack([lm.model(torch.tensor([prompt])).logits[0, -1] for prompt in PROMPTS])


# Gemma 2 attends eagerly, and in float64 its mask is infinite, so that padding becomes NaN.
@pytest.mark.parametrize(("name", "batch"), [(name, 1 if name == "gemma2" else 2) for name in MODELS])
def test_all_contributions_add_up_to_the_final_residual_and_the_lens_there_is_the_model(name: str, batch: int) -> None:
    lm = language_model(name)
    stream = Stream(lm, PROMPTS[0])
    stream.check(PROMPTS[0])
    found = stream.contributions(PROMPTS, batch_size=batch)
    whole = residuals(lm, PROMPTS, batch_size=batch)
    assert whole.shape == (LAYERS + 1, len(PROMPTS), WIDTH)
    total = found.embedding + found.attention.sum(0) + found.mlp.sum(0)
    torch.testing.assert_close(total, found.final, atol=1e-12, rtol=0)
    torch.testing.assert_close(whole[-1], found.final, atol=0, rtol=0)
    up_to = found.embedding + (found.attention + found.mlp).cumsum(0)
    torch.testing.assert_close(up_to, whole[1:], atol=1e-12, rtol=0)
    # What heads do not write is the output projection's bias: the same for every prompt.
    rest = found.attention - found.heads.sum(2)
    torch.testing.assert_close(rest, rest[:, :1].expand_as(rest), atol=1e-6, rtol=0)
    assert bool(rest.abs().max() > 0.1) == (name in ("gpt2", "neox", "opt"))
    seen = torch.cat(list(stream.logits(whole[-1], batch_size=2)))
    torch.testing.assert_close(seen, own_logits(lm), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
def test_contributions_to_logits_add_up_to_the_logits(name: str) -> None:
    lm = language_model(name)
    stream = Stream(lm, PROMPTS[0])
    found = stream.contributions(PROMPTS, batch_size=3, directions=stream.unembedding(range(60)).T)
    assert found.heads.shape == (LAYERS, len(PROMPTS), HEADS, 60)
    total = found.embedding + found.attention.sum(0) + found.mlp.sum(0) + found.constant
    torch.testing.assert_close(total, own_logits(lm), atol=1e-5, rtol=0)


def test_an_unmerged_adapter_is_part_of_what_is_seen() -> None:
    lm = language_model("llama")
    before = residuals(lm, PROMPTS, batch_size=3)
    config = LoraConfig(r=4, target_modules=["q_proj", "o_proj", "down_proj"], task_type="CAUSAL_LM")
    network: Any = get_peft_model(lm.model, config).double().eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(3))
    adapted = wrapped(network)
    stream = Stream(adapted, PROMPTS[0])
    stream.check(PROMPTS[0])
    found = stream.contributions(PROMPTS, batch_size=3)
    total = found.embedding + found.attention.sum(0) + found.mlp.sum(0)
    torch.testing.assert_close(total, found.final, atol=1e-12, rtol=0)
    torch.testing.assert_close(found.attention, found.heads.sum(2), atol=1e-12, rtol=0)
    assert (found.final - before[-1]).abs().max() > 0.1


def test_what_is_read_of_a_prompt_depends_on_no_other_and_on_no_padding() -> None:
    lm = language_model("llama")
    with torch.no_grad():
        states = lm.model(torch.tensor([PROMPTS[1]]), output_hidden_states=True).hidden_states
    averaged = residuals(lm, PROMPTS, batch_size=3, read=mean)
    tokens = residuals(lm, PROMPTS, batch_size=3, read=every)
    assert tokens.shape[1] == sum(map(len, PROMPTS))
    for layer in range(LAYERS):
        torch.testing.assert_close(averaged[layer, 1], states[layer][0].mean(0), atol=1e-12, rtol=0)
        torch.testing.assert_close(tokens[layer, 4:7], states[layer][0], atol=1e-12, rtol=0)


def test_hooks_that_see_nothing_are_an_error() -> None:
    lm = language_model("llama")
    blocks = lm.model.model.layers
    with watched_calls(named_blocks(blocks), 1, lambda hidden: hidden) as calls:
        pass
    with pytest.raises(ModelError, match="0 of 3 transformer blocks were seen"):
        in_order(calls, 3)
    blocks[1].register_forward_pre_hook(lambda _, inputs: (inputs[0] * 2, *inputs[1:]))
    with pytest.raises(ModelError, match="each behind the one before"):
        residuals(lm, PROMPTS, batch_size=3)


def test_a_block_that_writes_more_than_its_parts_is_an_error() -> None:
    lm = language_model("llama")
    lm.model.model.layers[2].register_forward_hook(lambda _module, _inputs, output: output * 1.5)
    with pytest.raises(ModelError, match="block 2 of LlamaForCausalLM writes something else"):
        Stream(lm, PROMPTS[0])


def test_a_lens_that_is_not_the_models_head_is_an_error() -> None:
    lm = language_model("llama")
    stream = Stream(lm, PROMPTS[0])
    calls: list[int] = []

    def disturbed(_: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        calls.append(1)
        return (inputs[0] * len(calls),)

    lm.model.lm_head.register_forward_pre_hook(disturbed)
    with pytest.raises(ModelError, match="gives other logits than the model"):
        stream.check(PROMPTS[0])
