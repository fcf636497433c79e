"""Which parts of a transformer learn: blocks, attention, feed-forward, and their linear layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from torch import nn
from transformers.pytorch_utils import Conv1D

from subl.errors import ModelError, suggest

Part = Literal["all", "attention", "mlp"]


def blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the transformer blocks and the name of their list, e.g. "model.layers".

    Raises:
        ModelError: The model has no such list.
    """
    config: Any = model.config
    count = config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name, module
    raise ModelError(
        f"no list of {count} transformer blocks in {type(model).__name__}; train all of it, without `layers`"
    )


def learning_modules(model: nn.Module, part: Part, layers: tuple[int, int] | None) -> dict[str, nn.Module]:
    """Return the modules that learn by name; the whole model is one module named "".

    Args:
        model: A causal language model without adapters.
        part: "all" with `layers` means whole blocks, without the embeddings.
        layers: First and last block, both included.

    Raises:
        ModelError: Blocks that do not exist, or no such part in them.
    """
    if part == "all" and layers is None:
        return {"": model}
    root, modules = blocks(model)
    first, last = layers or (0, len(modules) - 1)
    if last >= len(modules):
        raise ModelError(
            f"layers = [{first}, {last}], but {type(model).__name__} has {len(modules)} blocks, 0 to {len(modules) - 1}"
        )
    chosen = {f"{root}.{index}": modules[index] for index in range(first, last + 1)}
    if part == "all":
        return chosen
    found = {
        f"{name}.{child}": module
        for name, block in chosen.items()
        for child, module in block.named_children()
        if part_of(child, module) == part
    }
    if not found:
        raise ModelError(f'no {part} in the blocks of {type(model).__name__}; use train = "all"')
    return found


def linear_layers(
    model: nn.Module, part: Part, layers: tuple[int, int] | None, targets: Literal["all-linear"] | tuple[str, ...]
) -> list[str]:
    """Return the full names of the linear layers that get an adapter, in order; never the output head.

    Raises:
        ModelError: A target that does not exist (with a suggestion), or none within the chosen parts.
    """
    found = [
        name for root, module in learning_modules(model, part, layers).items() for name in _linear(model, root, module)
    ]
    if targets == "all-linear":
        return found
    every = {name.rsplit(".", 1)[-1] for name in _linear(model, "", model)}
    for target in targets:
        if target.rsplit(".", 1)[-1] not in every:
            raise ModelError(f"no linear layer {target!r} in {type(model).__name__}{suggest(target, every)}")
    chosen = [name for name in found if any(name == t or name.endswith(f".{t}") for t in targets)]
    if not chosen:
        raise ModelError(
            f'none of {", ".join(targets)} lies within train = "{part}"'
            + (f", layers = {list(layers)}" if layers else "")
            + "; widen one of them"
        )
    return chosen


def _linear(model: nn.Module, root: str, module: nn.Module) -> Iterator[str]:
    head = model.get_output_embeddings()  # type: ignore[operator]
    for name, child in module.named_modules():
        if isinstance(child, nn.Linear | Conv1D) and child is not head:
            yield ".".join(filter(None, (root, name)))


def part_of(child: str, module: nn.Module) -> str | None:
    """Tell a block's child by its name and shape: norms are neither attention nor feed-forward."""
    if not any(parameter.dim() >= 2 for parameter in module.parameters()):
        return None
    return "attention" if "attn" in child or "attention" in child else "mlp"
