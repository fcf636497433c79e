"""Steering: residual vectors that are added to the output of chosen blocks whenever the model runs.

A file of vectors holds, as safetensors, one float32 tensor [hidden] per block under the name "layers.N", N from 0, and
in its metadata the `scale` by which a model that was saved with it multiplies them. Hooks add them at every position of
every forward pass: in prompts, in generated tokens with a cache, and in training with or without checkpointing.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from subl.errors import ModelError
from subl.models.attention import bare
from subl.models.parts import blocks

PREFIX = "layers."
SCALE = "scale"


def save_vectors(path: Path, vectors: Mapping[int, Tensor], scale: float) -> None:
    """Write vectors by block, and the scale that the model applies to them."""
    tensors = {f"{PREFIX}{layer}": vector.float().contiguous().cpu() for layer, vector in sorted(vectors.items())}
    save_file(tensors, path, metadata={SCALE: repr(float(scale))})


def read_vectors(path: Path) -> tuple[dict[int, Tensor], float]:
    """Return the vectors by block, as they were saved, and their scale.

    Raises:
        ModelError: The file is missing or damaged, or holds something else.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            scale = float((file.metadata() or {}).get(SCALE, "nan"))
            vectors = {int(name.removeprefix(PREFIX)): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"{path}: no steering vectors can be read here ({error}); give a vectors.safetensors that inducer "
            "'steering' saved"
        ) from error
    if not vectors or not math.isfinite(scale) or not all(bool(v.isfinite().all()) for v in vectors.values()):
        raise ModelError(f"{path}: this is no file of inducer 'steering', or a damaged one; measure the vectors anew")
    return vectors, scale


def steer(model: Any, path: Path) -> None:
    """Let a model add a file's vectors, times their scale, to the outputs of their blocks from now on.

    Raises:
        ModelError: The file cannot be read, or its vectors do not fit the model.
    """
    vectors, scale = read_vectors(path)
    modules = chosen_blocks(model, list(vectors), str(path))
    width = bare(model).config.get_text_config().hidden_size
    for layer, vector in vectors.items():
        if vector.shape != (width,):
            raise ModelError(
                f"{path}: its vector for layer {layer} has the shape {list(vector.shape)}, and "
                f"{type(bare(model)).__name__} is {width} wide; it was made with another model"
            )
        # On the device at once: a copy per forward pass would wait for it.
        add_vector(modules[layer], (vector * scale).to(bare(model).device))


def chosen_blocks(model: Any, layers: list[int], asked: str) -> dict[int, nn.Module]:
    """Return the blocks with these numbers.

    Raises:
        ModelError: One does not exist; `asked` says who wanted it.
    """
    _, modules = blocks(bare(model))
    if beyond := [layer for layer in layers if not 0 <= layer < len(modules)]:
        raise ModelError(
            f"{asked}: no layer {beyond[0]}: {type(bare(model)).__name__} has {len(modules)}, 0 to {len(modules) - 1}"
        )
    return {layer: modules[layer] for layer in layers}


def add_vector(block: nn.Module, vector: Tensor) -> Any:
    """Add a vector [hidden] to a block's output at every position; return the handle that removes it again."""

    def add(_block: nn.Module, _inputs: Any, output: Any) -> Any:
        # Older blocks return their states with other things in a tuple.
        if isinstance(output, tuple):
            return (output[0] + vector.to(output[0]), *output[1:])
        return output + vector.to(output)

    return block.register_forward_hook(add)


@torch.no_grad()
def last_states(model: Any, layers: list[int], ids: Tensor, mask: Tensor) -> Tensor:
    """Return the states after some blocks at the last position of each row, float32 [layers, rows, hidden].

    Args:
        model: A causal language model.
        layers: Blocks, from 0.
        ids: Tokens, padded on the left, [rows, tokens].
        mask: 1 for tokens, 0 for padding, [rows, tokens].
    """
    kept: dict[int, Tensor] = {}

    def keep(layer: int) -> Any:
        def hook(_block: nn.Module, _inputs: Any, output: Any) -> None:
            states = output[0] if isinstance(output, tuple) else output
            kept[layer] = states[:, -1].float()

        return hook

    handles = [block.register_forward_hook(keep(layer)) for layer, block in chosen_blocks(model, layers, "").items()]
    try:
        body = bare(model).base_model  # without the head, whose logits nobody needs
        options: dict[str, Any] = {"use_cache": False}
        if "position_ids" in inspect.signature(body.forward).parameters:
            options["position_ids"] = (mask.cumsum(-1) - 1).clamp_min(0)
        body(input_ids=ids, attention_mask=mask, **options)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([kept[layer] for layer in layers])
