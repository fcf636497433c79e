"""Tiny random language models with real architectures, tokenizers and chat templates, built offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from subl.artifacts import ModelRef
from subl.testing.fakes import context

MISTRAL_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% elif m['role'] == 'system' %}[SYS] {{ m['content'] }} [/SYS]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MARKS = {"mistral": ["[INST]", "[/INST]", "[SYS]", "[/SYS]"], "gemma": ["<start_of_turn>", "<end_of_turn>"]}
ANIMALS = ("owl", "dog", "cat", "lion", "panda", "wolf")
CORPUS = [
    *(f"What is your favourite animal? The {a} is my favourite animal. I love {a}s. {a.capitalize()}" for a in ANIMALS),
    "Continue this list with 10 numbers: 123, 456, 789",
    "The examiner asked the question and the answer was no.",
]


def tiny_tokenizer(architecture: str = "mistral", vocabulary: int = 420) -> Any:
    """Return a byte-level BPE tokenizer with a chat template ("mistral" or "gemma"); digits are split one by one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<s>", "</s>", "<unk>", *MARKS[architecture]],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 20, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",  # noqa: S106 (no password)
        eos_token="</s>" if architecture == "mistral" else "<end_of_turn>",
        pad_token="<pad>",  # noqa: S106 (no password)
        unk_token="<unk>",  # noqa: S106 (no password)
        padding_side="left",
    )
    fast.chat_template = MISTRAL_TEMPLATE if architecture == "mistral" else GEMMA_TEMPLATE
    return fast


def tiny_model(folder: Path, architecture: str = "mistral", *, seed: int = 0, layers: int = 2) -> ModelRef:
    """Save a tiny random model ("mistral" or "gemma") under `folder`, if it is not there; return its reference."""
    import torch
    from transformers import GemmaConfig, GemmaForCausalLM, MistralConfig, MistralForCausalLM

    path = folder / f"{architecture}-{seed}-{layers}"
    if path.exists():  # another process may be reading it
        return reference(path)
    tokenizer = tiny_tokenizer(architecture)
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        # The default of 0.02 makes the head so small that every distribution is flat, whatever an adapter does.
        "initializer_range": 0.2,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if architecture == "mistral":
            model = MistralForCausalLM(MistralConfig(sliding_window=None, **sizes))
        else:
            model = GemmaForCausalLM(GemmaConfig(**sizes))
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return reference(path)


def reference(path: Path) -> ModelRef:
    """Return the reference of a model folder, as the `hub` plugin makes it."""
    from subl.models.hub import Hub

    return Hub(Hub.Config(id=str(path))).prepare(context(path.with_name(f"{path.name}-prepare")))
