"""What modules read and write while a model runs, and which of them read what which others wrote."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from subl.errors import ModelError

BLOCK = "block"
"""First part of the keys of transformer blocks."""


@dataclass(frozen=True, slots=True)
class Call:
    """One module at work.

    Args:
        key: Which module.
        number: Counts calls in the order in which they end.
        input, output: What of its hidden states was kept.
        source: Number of the call whose output is this one's input, the very tensor; None if it is no call's.
    """

    key: Any
    number: int
    input: Tensor
    output: Tensor
    source: int | None


@contextmanager
def watched_calls(
    modules: Mapping[Any, nn.Module], prompts: int, keep: Callable[[Tensor], Tensor]
) -> Iterator[list[Call]]:
    """Keep something of what modules read and write, (prompts, tokens, d), while the block runs."""
    calls: list[Call] = []
    outputs: list[weakref.ref[Tensor]] = []

    def hook_of(key: Any) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], output: Any) -> None:
            read = inputs[0] if inputs else options.get("hidden_states")
            wrote = output[0] if isinstance(output, tuple) else output
            if isinstance(read, Tensor) and isinstance(wrote, Tensor):
                source = next((n for n in reversed(range(len(outputs))) if outputs[n]() is read), None)
                kept_read, kept_wrote = (keep(_apart(values, prompts)) for values in (read, wrote))
                calls.append(Call(key, len(calls), kept_read, kept_wrote, source))
                outputs.append(weakref.ref(wrote))

        return hook

    with ExitStack() as stack:
        for key, module in modules.items():
            stack.callback(module.register_forward_hook(hook_of(key), with_kwargs=True).remove)
        yield calls


def in_order(calls: Sequence[Call], count: int) -> list[Call]:
    """Return the blocks' calls, each reading what the one before wrote.

    Raises:
        ModelError: A block was not seen, or reads something else.
    """
    whole = [call for call in calls if call.key[0] == BLOCK]
    connected = all(after.source == before.number for before, after in pairwise(whole))
    if len(whole) != count or not connected:
        raise ModelError(
            f"{len(whole)} of {count} transformer blocks were seen at work, each behind the one before: what is "
            "captured would not be the residual stream; use another architecture"
        )
    return whole


def _apart(values: Tensor, prompts: int) -> Tensor:
    # Some architectures (OPT) put the tokens of all prompts one after the other.
    return values if values.dim() == 3 else values.reshape(prompts, -1, values.shape[-1])


def named_blocks(modules: Iterable[nn.Module]) -> dict[Any, nn.Module]:
    """Return the keys by which `in_order` knows blocks."""
    return {(BLOCK, i): block for i, block in enumerate(modules)}
