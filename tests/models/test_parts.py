"""Attention and feed-forward layers are told apart in every architecture."""

from __future__ import annotations

from typing import Any

import pytest
import transformers as tf
from torch import nn

from subl.errors import ModelError
from subl.models.parts import blocks, learning_modules, linear_layers

SMALL: dict[str, Any] = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
MODELS: dict[str, Any] = {
    "mistral": lambda: tf.MistralConfig(intermediate_size=48, num_key_value_heads=2, **SMALL),
    "gemma2": lambda: tf.Gemma2Config(intermediate_size=48, num_key_value_heads=2, head_dim=8, **SMALL),
    "qwen2": lambda: tf.Qwen2Config(intermediate_size=48, num_key_value_heads=2, **SMALL),
    "gpt2": lambda: tf.GPT2Config(vocab_size=40, n_embd=32, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2),
    "gpt_neox": lambda: tf.GPTNeoXConfig(intermediate_size=48, **SMALL),
    "opt": lambda: tf.OPTConfig(ffn_dim=48, word_embed_proj_dim=32, **SMALL),
}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    return tf.AutoModelForCausalLM.from_config(MODELS[request.param]())


def test_every_linear_layer_of_a_block_is_attention_or_feed_forward(model: Any) -> None:
    attention = linear_layers(model, "attention", None, "all-linear")
    mlp = linear_layers(model, "mlp", None, "all-linear")
    assert attention
    assert mlp
    assert not set(attention) & set(mlp)
    assert sorted(attention + mlp) == sorted(linear_layers(model, "all", None, "all-linear"))


def test_layers_choose_blocks_from_first_to_last(model: Any) -> None:
    root, modules = blocks(model)
    assert len(modules) == 2
    second = linear_layers(model, "all", (1, 1), "all-linear")
    assert second
    assert all(name.startswith(f"{root}.1.") for name in second)
    assert set(learning_modules(model, "all", (0, 1))) == {f"{root}.0", f"{root}.1"}
    with pytest.raises(ModelError, match="has 2 blocks, 0 to 1"):
        learning_modules(model, "all", (1, 2))


def test_the_output_head_gets_no_adapter(model: Any) -> None:
    head = model.get_output_embeddings()
    modules = dict(model.named_modules())
    assert all(modules[name] is not head for name in linear_layers(model, "all", None, "all-linear"))


def test_norms_are_no_part_of_attention(model: Any) -> None:
    for name, module in learning_modules(model, "attention", None).items():
        assert any(parameter.dim() >= 2 for parameter in module.parameters()), name


def test_a_model_without_blocks_is_named() -> None:
    class Flat(nn.Module):
        config = tf.MistralConfig(intermediate_size=48, num_key_value_heads=2, **SMALL)

    with pytest.raises(ModelError, match="no list of 2 transformer blocks in Flat"):
        learning_modules(Flat(), "attention", None)
