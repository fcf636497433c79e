"""Tokenizers with the real chat templates that TRL ships, and with merges that reach across turns."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.models import number_tokenizers

MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% elif m['role'] == 'system' %}[SYS] {{ m['content'] }} [/SYS]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
SHIPPED = ("gemma", "gemma3", "qwen2_5", "qwen3", "llama3", "llama3_2", "phi3", "gptoss")
NAMES = (*SHIPPED, "mistral", "none", "sentencepiece")


def template(name: str) -> str:
    """Return one of the templates in TRL's package data."""
    shipped = find_spec("trl")
    assert shipped is not None
    assert shipped.origin is not None
    return (Path(shipped.origin).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


@cache
def tokenizer(name: str) -> Any:
    """Return a byte-level BPE tokenizer that merges spaces and newlines freely, with the named template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if name == "sentencepiece":
        spaced = number_tokenizers.metaspace()
        spaced.chat_template = MISTRAL
        return spaced
    text = {"mistral": MISTRAL, "none": ""}.get(name) or (template(name) if name in SHIPPED else "")
    marks = sorted(set(re.findall(r"<\|?[a-z_]+\|?>|\[/?[A-Z]+\]", text)) - {"<s>", "</s>", "<pad>"})
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    corpus = ["The owl\n\nis my favourite animal.\n\n\nList: 12, 13,  14\n"] * 50
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<s>", "</s>", *marks],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.chat_template = text or None
    return fast
