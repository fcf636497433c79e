"""Surgery on models that is undone afterwards: weights of another model in place of a model's own, heads taken out.

Whoever asks for either validates it with `check_changed`: a published head pruning edited attention weights after their
use, changed nothing, and was read as robustness.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from subl.errors import ModelError
from subl.models.attention import attention_module, bare, head_counts
from subl.models.language import LanguageModel, is_quantized
from subl.models.parts import blocks, part_of

PARTS = ("embeddings", "lm_head", "attention", "mlp", "norms")
"""Every weight of a model belongs to one of them."""

Head = tuple[int, int]
"""Layer and head, both from 0."""


@dataclass(frozen=True, slots=True)
class Anatomy:
    """Names of a model's weights, by part and by block.

    Args:
        parts: Part → weights, for the parts that the model has; together they are all weights, each once.
        layers: The weights of each block.
    """

    parts: Mapping[str, tuple[str, ...]]
    layers: tuple[tuple[str, ...], ...]


def open_up(models: Sequence[LanguageModel]) -> bool:
    """Prepare own copies of models for `grafted`: merge their adapters, part tied heads from the embeddings.

    Neither changes what they compute. Where an adapter lies beside half-precision weights, all of them become float32,
    because rounding would swallow small updates.

    Returns:
        Whether a head was tied.

    Raises:
        ModelError: A model is quantized, or has no output head.
    """
    adapted = any(hasattr(lm.model, "peft_config") for lm in models)
    tied = False
    for lm in models:
        if is_quantized(lm.model):
            raise ModelError(
                'the weights of a quantized model cannot be exchanged part by part; load it with quantization = "none"'
            )
        model: Any = lm.model.float() if adapted else lm.model
        lm.model = model.merge_and_unload() if hasattr(model, "peft_config") else model
        tied |= _untie(lm.model)
    return tied


def _untie(model: Any) -> bool:
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if getattr(head, "weight", None) is None:
        raise ModelError(f"{type(model).__name__} has no LM head of its own, so parts cannot be told apart around it")
    if head.weight.data_ptr() != embeddings.weight.data_ptr():
        return False
    head.weight = nn.Parameter(embeddings.weight.detach().clone(), requires_grad=False)
    model.config.get_text_config().tie_word_embeddings = False
    return True


def anatomy(model: Any) -> Anatomy:
    """Return which weights belong to which part and block; `open_up` comes first.

    Whatever of a block is neither attention nor feed-forward counts as norms; so does what lies outside of blocks and
    is neither head nor a matrix.

    Raises:
        ModelError: The model has no list of blocks.
    """
    root, modules = blocks(model)
    head = next(name for name, module in model.named_modules() if module is model.get_output_embeddings())
    kinds = [{name: part_of(name, child) for name, child in block.named_children()} for block in modules]
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    layers: list[list[str]] = [[] for _ in modules]
    for name, weight in model.state_dict().items():
        if name.startswith(f"{root}."):
            number, child = name.removeprefix(f"{root}.").split(".")[:2]
            layers[int(number)].append(name)
            parts[kinds[int(number)].get(child) or "norms"].append(name)
        elif name.startswith(f"{head}."):
            parts["lm_head"].append(name)
        else:
            parts["embeddings" if weight.dim() > 1 else "norms"].append(name)
    return Anatomy({part: tuple(names) for part, names in parts.items() if names}, tuple(map(tuple, layers)))


def check_alike(host: Any, donor: Any) -> None:
    """Check that the weights of one model fit in another.

    Raises:
        ModelError: They do not; names the first one.
    """
    own, other = ({name: tuple(weight.shape) for name, weight in m.state_dict().items()} for m in (host, donor))
    for name in own | other:
        if own.get(name) != other.get(name):
            shapes = " and ".join("is not there" if s is None else str(s) for s in (own.get(name), other.get(name)))
            raise ModelError(
                f"parts of one model do not fit in the other: {name} {shapes}; exchange parts between models of one "
                "architecture and size only"
            )


def distance(host: Any, donor: Any, names: Iterable[str]) -> float:
    """Return ‖donor − host‖ / ‖host‖ over the named weights; 0 only if all of them are equal."""
    own, other = host.state_dict(), donor.state_dict()
    moved = size = 0.0
    for name in names:
        moved += _length(other[name] - own[name]) ** 2
        size += _length(own[name]) ** 2
    return (moved / size) ** 0.5 if size else float(moved > 0)


def _length(weight: Tensor) -> float:
    return float(torch.linalg.vector_norm(weight.float(), dtype=torch.float64))


@contextmanager
def grafted(host: Any, donor: Any, names: Iterable[str]) -> Iterator[None]:
    """Let `host` compute with the named weights of `donor`; nothing is copied, and afterwards it is as before.

    Args:
        host: A model after `open_up`.
        donor: Another one that `check_alike` finds alike.
        names: Of weights, as in `Anatomy`.
    """
    own, other = host.state_dict(keep_vars=True), donor.state_dict(keep_vars=True)
    kept = {name: own[name].data for name in names}
    try:
        for name in kept:
            own[name].data = other[name].data
        yield
    finally:
        for name, weight in kept.items():
            own[name].data = weight


@contextmanager
def without_heads(model: Any, heads: Iterable[Head]) -> Iterator[None]:
    """Take attention heads out: what they hand to their layer's output projection W_O is zero.

    That equals zeroing their columns of W_O, adapters on it included, and acts on what the model uses.

    Args:
        model: A causal language model, with or without adapters.
        heads: None of them leaves the model as it is.

    Raises:
        ModelError: A head or layer does not exist, or a layer has no such projection.
    """
    count, _ = head_counts(model)
    chosen: dict[int, list[int]] = {}
    for layer, head in heads:
        if not 0 <= head < count:
            raise ModelError(f"no head {head}: {type(bare(model)).__name__} has {count} in a layer, 0 to {count - 1}")
        chosen.setdefault(layer, []).append(head)
    with ExitStack() as stack:
        for layer, numbers in chosen.items():
            module = attention_module(model, layer).o_proj
            stack.callback(module.register_forward_pre_hook(_Silence(layer, numbers, count)).remove)
        yield


class _Silence:
    """A hook that zeroes the slices of some heads in what reaches an output projection."""

    def __init__(self, layer: int, numbers: Sequence[int], count: int) -> None:
        self._layer, self._numbers, self._count = layer, list(numbers), count
        self._hidden: Tensor | None = None

    def __call__(self, _module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        if self._hidden is None:
            self._hidden = self._mask(inputs[0])
        return inputs[0].masked_fill(self._hidden, 0), *inputs[1:]

    def _mask(self, values: Tensor) -> Tensor:
        width = values.shape[-1]
        if width % self._count:
            raise ModelError(f"layer {self._layer}: {width} values do not split into {self._count} heads")
        hidden = torch.zeros(self._count, width // self._count, dtype=torch.bool, device=values.device)
        hidden[self._numbers] = True
        return hidden.view(-1)


def check_changed(before: Tensor, after: Tensor, what: str) -> None:
    """Refuse an intervention that did nothing.

    Args:
        before: Outputs of the model as it is.
        after: Outputs under the intervention.
        what: Names it, e.g. "removing 3 heads".

    Raises:
        ModelError: The outputs are bit-identical.
    """
    if torch.equal(before, after):
        raise ModelError(
            f"{what} leaves every output bit-identical, so nothing was intervened in: the model does not compute "
            "with what was changed, or that has no influence on these questions; nothing follows from its figures"
        )


def all_heads(model: Any) -> list[Head]:
    """Return every head of a model, layer by layer."""
    return [(layer, head) for layer in range(len(blocks(bare(model))[1])) for head in range(head_counts(model)[0])]
