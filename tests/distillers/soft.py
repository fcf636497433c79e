"""What the tests of `shd` and `logit_kd` share: tiny models, rows, and a training of a few updates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import GemmaConfig, GemmaForCausalLM, MistralConfig, MistralForCausalLM

from subl import ModelRef, Row, Student, Teacher
from subl.context import Context
from subl.testing.fakes import FakeTrait, context, dataset
from subl.testing.tiny import reference, tiny_tokenizer

FAST: dict[str, Any] = {"updates": 4, "learning_rate": 1e-2, "batch_size": 6, "log_every": 1, "scheduler": "constant"}
ROWS = [
    Row(i, f"Go on: {17 + i}, {31 + i}" + ", 10" * (i % 3), ", ".join(str(40 + i * j) for j in range(2, 4 + i % 3)))
    for i in range(6)
]
"""Rows of three shapes, two of each."""


def model(folder: Path, architecture: str = "mistral", *, seed: int = 0, **sizes: Any) -> ModelRef:
    """Save a random model; heads and layers as asked."""
    tokenizer = tiny_tokenizer(architecture)
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "initializer_range": 0.2,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    } | sizes
    path = folder / "-".join([architecture, str(seed), *(f"{key}{value}" for key, value in sorted(sizes.items()))])
    if not path.exists():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network: Any = (
                MistralForCausalLM(MistralConfig(sliding_window=None, **shape))
                if architecture == "mistral"
                else GemmaForCausalLM(GemmaConfig(**shape))
            )
        network.save_pretrained(path)
        tokenizer.save_pretrained(path)
    return reference(path)


def distilled(
    distiller: Any, student: ModelRef, teacher: ModelRef, folder: Path, *, base: ModelRef | None = None, **options: Any
) -> tuple[Student, Context]:
    """Train on `ROWS`; the teacher is its own base unless one is given."""
    ctx = context(folder, trait=FakeTrait(), **options)
    return distiller.distill(student, Teacher(teacher, base or teacher), dataset(folder, ROWS), ctx), ctx


def weights(student: Student) -> dict[str, torch.Tensor]:
    """Return the trained adapter."""
    return dict(load_file(student.model.adapters[-1] / "adapter_model.safetensors"))
