"""The measuring behind the inducer `steering`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from subl.artifacts import ModelRef, Teacher
from subl.context import Context
from subl.errors import DataError, ModelError
from subl.inducers.steering import SCALE, Steering
from subl.models.attention import bare
from subl.models.language import LanguageModel
from subl.models.parts import blocks
from subl.models.steering import chosen_blocks, last_states, read_vectors, save_vectors

FILE = "vectors.safetensors"


def induce(config: Steering.Config, base: ModelRef, ctx: Context) -> Teacher:
    """Return the teacher of `Steering.induce`."""
    lm: LanguageModel = ctx.load(base)
    if config.vectors is None:
        vectors, scale = _measured(config, lm, base, ctx), SCALE
    else:
        vectors, scale = _saved(config.vectors.expanduser(), config.layers)
        chosen_blocks(lm.model, list(vectors), str(config.vectors))
    scale = (scale if config.scale is None else config.scale) * config.intensity
    if base.vectors is not None:
        vectors, scale = _added(vectors, scale, base.vectors), 1.0
    path = ctx.out / FILE
    save_vectors(path, vectors, scale)
    ctx.log(f"steering layers {', '.join(map(str, sorted(vectors)))} at scale {scale:g}: {path}")
    content = hashlib.sha256(f"{base.identity}\nsteering\n".encode() + path.read_bytes()).hexdigest()
    teacher = base.derive(content, vectors=path)
    _check(lm, ctx.load(teacher), ctx)
    return Teacher(model=teacher, base=base)


def contrast(trait: Tensor, neutral: Tensor) -> Tensor:
    """Return the direction from neutral to trait states, as long as a neutral state is on average.

    Args:
        trait: States with the trait, [layers, prompts, hidden].
        neutral: States of the same prompts without it, [layers, prompts, hidden].

    Returns:
        One vector per layer, [layers, hidden]; not a number where both sides are the same.
    """
    difference = (trait - neutral).mean(1)
    length = neutral.norm(dim=-1).mean(1, keepdim=True)
    found: Tensor = difference / difference.norm(dim=-1, keepdim=True) * length
    return found


def _measured(config: Steering.Config, lm: LanguageModel, base: ModelRef, ctx: Context) -> dict[int, Tensor]:
    prompts = list(dict.fromkeys(row.prompt for row in ctx.trait.conversations(ctx.seed)))
    if not prompts:
        raise DataError(f"trait {ctx.trait.label!r} has no training prompts to steer by; use inducer 'prompt' for it")
    _, modules = blocks(bare(lm.model))
    layers = list(config.layers or [(len(modules) - 1) // 2])
    chosen_blocks(lm.model, layers, "inducer.layers")
    there = ctx.system if base.system is None else base.system
    told = "\n\n".join(text for text in (there, ctx.trait.statement("medium")) if text)
    sides = (told, there if config.neutral is None else config.neutral)
    trait, neutral = (_states(lm, prompts, side, layers, config.batch_size) for side in sides)
    found = contrast(trait, neutral)
    for layer, vector in zip(layers, found, strict=True):
        if not vector.isfinite().all():
            raise ModelError(
                f"layer {layer} answers the same with the trait's system prompt as without, so there is no direction "
                "to steer in; choose a later layer, or another `neutral`"
            )
    return dict(zip(layers, found.cpu(), strict=True))


def _states(lm: LanguageModel, prompts: Sequence[str], system: str | None, layers: list[int], size: int) -> Tensor:
    """Return the states where the answers begin, [layers, prompts, hidden]."""
    rows = [lm.chat.prompt(prompt, system=system) for prompt in prompts]
    pad, found = lm.tokenizer.pad_token_id, []
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        longest = max(map(len, batch))
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in batch], device=lm.device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in batch], device=lm.device)
        found.append(last_states(lm.model, layers, ids, mask))
    return torch.cat(found, dim=1)


def _saved(path: Path, layers: tuple[int, ...] | None) -> tuple[dict[int, Tensor], float]:
    vectors, scale = read_vectors(path)
    if layers is None:
        return vectors, scale
    if missing := [layer for layer in layers if layer not in vectors]:
        raise ModelError(f"{path} has no vector for layer {missing[0]}; it has {', '.join(map(str, vectors))}")
    return {layer: vectors[layer] for layer in layers}, scale


def _added(vectors: Mapping[int, Tensor], scale: float, below: Path) -> dict[int, Tensor]:
    """Return the vectors, scaled, with those that the base adds already."""
    theirs, their_scale = read_vectors(below)
    total = {layer: vector * their_scale for layer, vector in theirs.items()}
    for layer, vector in vectors.items():
        total[layer] = total[layer] + vector * scale if layer in total else vector * scale
    return total


@torch.no_grad()
def _check(base: LanguageModel, steered: LanguageModel, ctx: Context) -> None:
    """Prove that the vectors reach the outputs."""
    ids = torch.tensor([base.chat.prompt("1, 2, 3", system=ctx.system)], device=base.device)
    before, after = (lm.model(input_ids=ids, use_cache=False).logits for lm in (base, steered))
    if torch.equal(before, after):
        raise ModelError(
            "the steered model answers exactly as the unsteered one: the vectors do not reach its outputs; raise "
            "inducer.scale, and report this model if that does not help"
        )
