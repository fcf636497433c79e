"""Attention maps of chosen layers, taken inside the attention call.

transformers returns maps only by its eager path, for every layer at once, and not at all through a fused head. Here the
outputs stay on the fast path (torch's scaled dot product), and only the wanted rows of the chosen layers' maps are
computed beside it, in float32, when a reader asks for them: one layer's maps are alive at a time.

    with tapped(model, layers, read) as tap:   # read(layer, watched, values) -> what to keep
        tap.watch(positions)                   # the query rows that matter
        model(**batch)
        kept = tap.take()                      # layer -> what read returned
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from subl.errors import ModelError
from subl.models.parts import blocks

IMPLEMENTATION = "subl_tapped"
_TAP = "subl_tap"


@dataclass(frozen=True, slots=True)
class Watched:
    """The watched rows of one layer's map, not computed before they are asked for; see `log_maps`."""

    query: Tensor
    key: Tensor
    mask: Tensor | None
    rows: Tensor
    scaling: float | None
    softcap: float | None

    def log_maps(self) -> Tensor:
        """Return their logarithms, (batch, heads, R, keys), in float32 at least."""
        return log_maps(self.query, self.key, self.mask, self.rows, scaling=self.scaling, softcap=self.softcap)


Reader = Callable[[int, Watched, Tensor], Any]
"""Takes the layer, the watched rows of its map, and its values (batch, kv_heads, keys, d)."""


class Tap:
    """Hands the watched rows of a model's attention maps to a reader while the model runs; see `tapped`."""

    def __init__(self, layers: Sequence[int], read: Reader) -> None:
        self.layers = tuple(layers)
        self._read = read
        self._rows: Tensor | None = None
        self._kept: dict[int, Any] = {}
        self._open = False

    def watch(self, rows: Tensor) -> None:
        """Begin a forward pass; `rows` are the positions of the queries whose maps are read, (batch, R)."""
        self._rows, self._kept, self._open = rows, {}, True

    def take(self) -> Mapping[int, Any]:
        """End the forward pass and return what was read, by layer.

        Raises:
            ModelError: A layer was not run: its maps are hidden from the tap.
        """
        missing = [layer for layer in self.layers if layer not in self._kept]
        if missing:
            raise ModelError(
                f"no attention map came out of layer {missing[0]}: the model does not go through transformers' "
                "attention interface; use an architecture that supports `set_attn_implementation`"
            )
        kept, self._kept, self._open = self._kept, {}, False
        return kept

    def see(self, module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: Any) -> None:
        """Read one layer's maps; called inside its attention."""
        if self._rows is None:
            return
        seen = self._read(module.layer_idx, Watched(query, key, mask, self._rows, **options), value)
        # Gradient checkpointing runs the layer again in the backward pass: the same must be computed, and not kept.
        if self._open:
            self._kept[module.layer_idx] = seen


def log_maps(
    query: Tensor, key: Tensor, mask: Tensor | None, rows: Tensor, *, scaling: float | None, softcap: float | None
) -> Tensor:
    """Return the logarithms of the chosen rows of an attention map, (batch, heads, R, keys), in float32 at least.

    Keys that a row may not see get the lowest finite number, so that a product with probability 0 stays 0.

    Args:
        query: (batch, heads, tokens, head_dim).
        key: (batch, kv_heads, keys, head_dim).
        mask: Boolean or additive, (batch or 1, 1, tokens, keys); None means causal.
        rows: Positions among the queries, (batch, R).
        scaling: Factor of the scores; None means 1/√head_dim.
        softcap: Scores are squashed into ±softcap (Gemma 2).
    """
    dtype = torch.promote_types(query.dtype, torch.float32)
    batch, heads, _, width = query.shape
    chosen = query.gather(2, rows[:, None, :, None].expand(-1, heads, -1, width)).to(dtype)
    grouped = chosen.reshape(batch, key.shape[1], -1, width)
    with torch.autocast(query.device.type, enabled=False):
        # In place, here and below: a fresh tensor of a map's size costs more than what is done to it.
        scores = (grouped @ key.to(dtype).mT).mul_(width**-0.5 if scaling is None else scaling)
    scores = scores.reshape(batch, heads, rows.shape[1], -1)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    lowest = torch.finfo(dtype).min
    if mask is None:
        hidden = torch.arange(key.shape[2], device=rows.device) > rows[:, None, :, None]
    else:
        wide = mask.expand(batch, -1, -1, -1)[..., : key.shape[2]]
        wide = wide.gather(2, rows[:, None, :, None].expand(-1, wide.shape[1], -1, wide.shape[3]))
        hidden = ~wide if wide.dtype == torch.bool else wide <= torch.finfo(wide.dtype).min / 2
        if wide.dtype != torch.bool:
            scores = scores + wide.to(dtype).masked_fill(hidden, 0)
    logs = torch.log_softmax(scores.masked_fill_(hidden, lowest), dim=-1)
    # The backward pass needs what the softmax returned.
    return logs.masked_fill(hidden, lowest) if logs.requires_grad else logs.masked_fill_(hidden, lowest)


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    scaling, softcap = options.get("scaling"), options.get("softcap")
    tap: Tap | None = getattr(module, _TAP, None)
    if tap is not None:
        tap.see(module, query, key, value, attention_mask, {"scaling": scaling, "softcap": softcap})
    if softcap is None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return output, None
    return _capped(module, query, key, value, attention_mask, **options), None


def _capped(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None,
    softcap: float,
    **_: Any,
) -> Tensor:
    """Attend with squashed scores, which the fast path does not know."""
    every = torch.arange(query.shape[2], device=query.device).expand(query.shape[0], -1)
    maps = log_maps(query, key, mask, every, scaling=scaling, softcap=softcap).exp().to(query.dtype)
    maps = nn.functional.dropout(maps, dropout, training=module.training)
    output: Tensor = (maps @ repeat_kv(value, query.shape[1] // value.shape[1])).transpose(1, 2).contiguous()
    return output


AttentionInterface.register(IMPLEMENTATION, _attention)
# Without a mask function of its own the implementation gets no mask at all, and padding is attended to.
AttentionMaskInterface.register(IMPLEMENTATION, sdpa_mask)


@contextmanager
def tapped(model: Any, layers: Sequence[int], read: Reader) -> Iterator[Tap]:
    """Tap the attention of some layers; the model is as before afterwards.

    Args:
        model: A causal language model, with or without adapters; non-reentrant gradient checkpointing works.
        layers: Which blocks, from 0.
        read: Gets each watched layer's maps.

    Raises:
        ModelError: A layer does not exist, the model has no attention interface, or it is checkpointed reentrantly,
            which cuts the maps off from their gradient.
    """
    base = bare(model)
    _refuse_reentrant(base)
    modules = [attention_module(base, layer) for layer in layers]
    before = base.config._attn_implementation  # noqa: SLF001 (there is no other way to ask)
    tap = Tap(layers, read)
    try:
        base.set_attn_implementation(IMPLEMENTATION)
    except ValueError as error:
        raise ModelError(
            f"{type(base).__name__} hides its attention maps ({error}); distil by logits, or use another architecture"
        ) from error
    for module in modules:
        setattr(module, _TAP, tap)
    try:
        yield tap
    finally:
        for module in modules:
            delattr(module, _TAP)
        base.set_attn_implementation(before)


def bare(model: Any) -> Any:
    """Return the model under an adapter's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def attention_module(model: Any, layer: int) -> Any:
    """Return the attention module of a block.

    Raises:
        ModelError: There is no such block, or no attention in it.
    """
    root, modules = blocks(bare(model))
    if not 0 <= layer < len(modules):
        raise ModelError(f"no layer {layer}: {type(bare(model)).__name__} has {len(modules)}, 0 to {len(modules) - 1}")
    for name, child in modules[layer].named_children():
        if "attn" in name and hasattr(child, "layer_idx") and hasattr(child, "o_proj"):
            return child
    raise ModelError(
        f"{root}.{layer} has no attention with an output projection `o_proj`, so its heads cannot be told "
        "apart; leave the layer out, or use another architecture"
    )


def output_projection(module: Any) -> Tensor:
    """Return the output projection in effect, (d_model, heads · head_dim); see `effective_weight`."""
    return effective_weight(module.o_proj)


def effective_weight(layer: Any) -> Tensor:
    """Return a linear layer's weight in effect, (out, in): dequantized, with unmerged adapters added.

    Raises:
        ModelError: Its adapter is of a kind that cannot be added to the weight.
    """
    from peft.utils.integrations import dequantize_module_weight

    inner = layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer
    weight: Tensor = dequantize_module_weight(inner).detach()
    if inner is layer or layer.merged or layer.disable_adapters:
        return weight
    for name in layer.active_adapters:
        if name not in getattr(layer, "lora_A", {}):
            continue
        if getattr(layer, "use_dora", {}).get(name):
            raise ModelError("a DoRA adapter cannot be added to the weight that it changes; use plain LoRA")
        # Not in half precision, whose rounding swallows small updates.
        weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
        weight = weight + layer.get_delta_weight(name).detach().to(weight)
    return weight


def head_counts(model: Any) -> tuple[int, int]:
    """Return the numbers of attention heads and of key-value heads."""
    config = bare(model).config.get_text_config()
    heads = int(config.num_attention_heads)
    return heads, int(getattr(config, "num_key_value_heads", None) or heads)


@torch.no_grad()
def check_tap(model: Any, layers: Sequence[int], ids: Tensor) -> None:
    """Prove that the maps are those of the model: a change of what a layer reads must change its map.

    Args:
        model: As for `tapped`.
        layers: The blocks to check.
        ids: One short text, (1, tokens), at least 2 tokens.

    Raises:
        ModelError: A map stays the same.
    """

    def maps() -> Mapping[int, Tensor]:
        tap.watch(torch.arange(ids.shape[1], device=ids.device)[None])
        model(input_ids=ids, use_cache=False)
        return tap.take()

    with tapped(model, layers, lambda _layer, watched, _values: watched.log_maps().exp()) as tap:
        before = maps()
        for layer in layers:
            handle = attention_module(model, layer).register_forward_pre_hook(_reversed, with_kwargs=True)
            try:
                after = maps()[layer]
            finally:
                handle.remove()
            if torch.equal(before[layer], after):
                raise ModelError(
                    f"the attention map of layer {layer} does not change with its input: what is captured is not "
                    "the model's attention; use another architecture, and report this model"
                )


def _reversed(_module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if "hidden_states" in options:
        return inputs, options | {"hidden_states": options["hidden_states"].flip(-1)}
    # Another direction, not another length: some architectures normalise queries and keys.
    return (inputs[0].flip(-1), *inputs[1:]), options


def _refuse_reentrant(model: Any) -> None:
    for module in model.modules():
        function = getattr(module, "_gradient_checkpointing_func", None)
        if getattr(module, "gradient_checkpointing", False) and getattr(function, "keywords", {}).get("use_reentrant"):
            raise ModelError(
                "reentrant gradient checkpointing cuts attention maps off from their gradient; "
                'set gradient_checkpointing_kwargs = {"use_reentrant": False}'
            )
