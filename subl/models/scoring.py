"""Log-probabilities of many continuations after many prefixes, without running anything twice.

Equal prefixes are run once. A prefix is run for its cache and its last position; the continuations run on that cache,
and of continuations that begin alike ("12", "123", "124") only the longest bodies run: their inner positions answer for
the shorter ones. Logits exist for continuation positions alone.
"""

from __future__ import annotations

import copy
import inspect
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from subl.models.language import LanguageModel

Ids = Sequence[int]

SELECTABLE = frozenset({"DynamicLayer", "DynamicSlidingWindowLayer"})
"""Cache layers whose rows can be picked; models with other caches run whole sequences."""


def continuation_log_probs(
    lm: LanguageModel,
    prefixes: Sequence[Ids],
    continuations: Sequence[Ids] | Sequence[Sequence[Ids]],
    *,
    batch_size: int,
) -> Tensor:
    """Return the natural-log probability of every continuation after every prefix.

    Args:
        lm: The model.
        prefixes: Token ids, each with at least one token.
        continuations: Token ids shared by all prefixes, or one equally long list of them per prefix.
        batch_size: Rows in one forward pass; changes speed and memory only.

    Returns:
        float32 tensor on CPU, [prefixes, continuations]: sums over the continuation's tokens, not divided by length.

    Raises:
        ValueError: An empty prefix or continuation, or lists of unequal length.
    """
    return scores_and_ranks(lm, prefixes, continuations, (), batch_size=batch_size)[0]


def scores_and_ranks(
    lm: LanguageModel,
    prefixes: Sequence[Ids],
    continuations: Sequence[Ids] | Sequence[Sequence[Ids]],
    ranked: Ids,
    *,
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    """Return what `continuation_log_probs` does, and from the same forward passes a rank in the whole vocabulary.

    Args:
        lm, prefixes, continuations, batch_size: As there.
        ranked: Tokens of which the likeliest next one is ranked; none if empty.

    Returns:
        The scores, and int64 [prefixes]: the rank of the likeliest of `ranked` after each prefix, 1 for the most likely
        token, 0 without `ranked`.
    """
    lists = _per_prefix(prefixes, continuations)
    plans: dict[tuple[tuple[int, ...], ...], _Plan] = {}
    for row in lists:
        if row not in plans:
            plans[row] = _plan(row)
    jobs: dict[tuple[tuple[int, ...], tuple[tuple[int, ...], ...]], int] = {}
    where = [jobs.setdefault((tuple(prefix), row), len(jobs)) for prefix, row in zip(prefixes, lists, strict=True)]
    order = sorted(jobs, key=lambda job: len(job[0]))
    result = torch.zeros(len(jobs), len(lists[0]) if lists else 0)
    ranks = torch.zeros(len(jobs), dtype=torch.long)
    of = torch.tensor(list(ranked), dtype=torch.long, device=lm.device)
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            own = [prefix for prefix, _ in batch], [plans[row] for _, row in batch]
            scores, placed = _score(lm, *own, of, batch_size)
            here = [jobs[job] for job in batch]
            result[here], ranks[here] = scores.cpu(), placed.cpu()
    return result[where], ranks[where]


def next_token_log_probs(lm: LanguageModel, prefixes: Sequence[Ids], *, batch_size: int) -> Tensor:
    """Return the log-probability of every token of the vocabulary after each prefix.

    Returns:
        float32 tensor on CPU, [prefixes, vocabulary].

    Raises:
        ValueError: An empty prefix.
    """
    _check(prefixes)
    rows: dict[tuple[int, ...], int] = {}
    where = [rows.setdefault(tuple(prefix), len(rows)) for prefix in prefixes]
    order = sorted(rows, key=len)
    parts: list[Tensor] = []
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            batch = Prefixes(lm, order[start : start + batch_size])
            parts.append(torch.log_softmax(batch.run(cache=False)[0].float(), dim=-1).cpu())
    if not parts:
        return torch.zeros(0, lm.model.config.get_text_config().vocab_size)
    back = torch.empty(len(order), dtype=torch.long)
    back[[rows[row] for row in order]] = torch.arange(len(order))
    return torch.cat(parts)[back[where]]


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one list of continuations is scored.

    Args:
        bodies: Token runs whose positions answer for every token but the first.
        first: First tokens, [continuations].
        inner: For every later token: (body, position, token, continuation), [items, 4].
    """

    bodies: tuple[tuple[int, ...], ...]
    first: Tensor
    inner: Tensor


def _plan(continuations: tuple[tuple[int, ...], ...]) -> _Plan:
    wanted = sorted({row[:-1] for row in continuations if len(row) > 1})
    # Sorted, a run is followed directly by the runs that begin with it.
    bodies = [b for b, after in zip(wanted, [*wanted[1:], ()], strict=False) if after[: len(b)] != b]
    inner = [
        (bisect_left(bodies, row[:-1]), position, row[position + 1], number)
        for number, row in enumerate(continuations)
        for position in range(len(row) - 1)
    ]
    first = torch.tensor([row[0] for row in continuations], dtype=torch.long)
    return _Plan(tuple(bodies), first, torch.tensor(inner, dtype=torch.long).view(-1, 4))


def _score(
    lm: LanguageModel, prefixes: list[tuple[int, ...]], plans: list[_Plan], ranked: Tensor, batch_size: int
) -> tuple[Tensor, Tensor]:
    """Return the scores, [prefixes, continuations], and the ranks, [prefixes], for one batch of prefixes."""
    batch = Prefixes(lm, prefixes)
    rows = [(p, b) for p, plan in enumerate(plans) for b in range(len(plan.bodies))]
    logits, cache = batch.run(cache=bool(rows))
    first = torch.stack([plan.first for plan in plans]).to(lm.device)
    scores, ranks = _pick(logits.float(), first), _ranks(logits, ranked)
    if not rows:
        return scores, ranks
    items = _items(plans)
    # Long bodies together: padding is wasted work.
    rank = torch.tensor([len(plans[p].bodies[b]) for p, b in rows]).argsort(stable=True)
    place = torch.empty_like(rank)
    place[rank] = torch.arange(len(rows))
    items[:, 0] = place[items[:, 0]]
    items = items[items[:, 0].argsort(stable=True)]
    rows = [rows[i] for i in rank.tolist()]
    flat = scores.view(-1)
    for start in range(0, len(rows), batch_size):
        chunk = rows[start : start + batch_size]
        low, high = torch.searchsorted(items[:, 0].contiguous(), torch.tensor([start, start + len(chunk)])).tolist()
        logits = batch.extend(cache, [p for p, _ in chunk], [plans[p].bodies[b] for p, b in chunk]).float()
        row, position, token, slot = (items[low:high] - torch.tensor([start, 0, 0, 0])).to(lm.device).unbind(1)
        values = logits[row, position, token] - logits.logsumexp(-1)[row, position]
        flat.index_add_(0, slot, values)
    return scores, ranks


def _items(plans: list[_Plan]) -> Tensor:
    """Return (row, position, token, index into the flat scores) of every later token, over all prefixes."""
    width = len(plans[0].first)
    parts: list[Tensor] = []
    rows = 0
    for number, plan in enumerate(plans):
        parts.append(plan.inner + torch.tensor([rows, 0, 0, number * width]))
        rows += len(plan.bodies)
    return torch.cat(parts)


def _ranks(logits: Tensor, ranked: Tensor) -> Tensor:
    if not len(ranked):
        return torch.zeros(len(logits), dtype=torch.long)
    return (logits > logits[:, ranked].amax(dim=1, keepdim=True)).sum(dim=1) + 1


def _pick(logits: Tensor, tokens: Tensor) -> Tensor:
    return logits.gather(-1, tokens) - logits.logsumexp(-1, keepdim=True)


class Prefixes:
    """Left-padded prefixes: one forward pass for their caches, then suffixes on picked rows of it.

    Args:
        lm: The model.
        prefixes: Token ids, each with at least one token. `ids` and `mask` are theirs, (prefixes, tokens).
    """

    def __init__(self, lm: LanguageModel, prefixes: Sequence[Ids]) -> None:
        self._lm = lm
        self._prefixes = prefixes
        self._pad = int(lm.tokenizer.pad_token_id)
        model: Any = lm.model
        base = model.get_base_model() if hasattr(model, "peft_config") else model
        self._accepted = inspect.signature(base.forward).parameters
        self.ids, self.mask = self._padded(prefixes, left=True)

    def run(self, *, cache: bool) -> tuple[Tensor, Any]:
        """Return the logits after each prefix, [prefixes, vocabulary], and the cache where asked for."""
        out = self._forward(self.ids, self.mask, keep=1, use_cache=cache)
        return out.logits[:, -1], getattr(out, "past_key_values", None)

    def extend(self, cache: Any, picked: list[int], suffixes: list[tuple[int, ...]]) -> Tensor:
        """Return the logits at every suffix position, [suffixes, length, vocabulary]; `picked` are prefix numbers."""
        width = max(map(len, suffixes))
        if not _selectable(cache):
            return self._whole(picked, suffixes, width)
        ids, _ = self._padded(suffixes, left=False)
        index = torch.tensor(picked, device=self._lm.device)
        # Padding behind a suffix may be seen by padding alone, so it needs no mask.
        mask = torch.cat([self.mask[index], torch.ones_like(ids)], dim=1)
        out = self._forward(ids, mask, keep=width, use_cache=True, past_key_values=_picked(cache, index))
        return out.logits[:, -width:]  # type: ignore[no-any-return]

    def _whole(self, picked: list[int], suffixes: list[tuple[int, ...]], width: int) -> Tensor:
        whole = [(*self._prefixes[p], *suffix) for p, suffix in zip(picked, suffixes, strict=True)]
        ids, mask = self._padded(whole, left=True)
        logits = self._forward(ids, mask, keep=width, use_cache=False).logits[:, -width:]
        shift = torch.tensor([width - len(suffix) for suffix in suffixes], device=logits.device)
        steps = (torch.arange(width, device=logits.device) + shift[:, None]).clamp_max(width - 1)
        return logits.gather(1, steps[..., None].expand(-1, -1, logits.shape[-1]))  # type: ignore[no-any-return]

    def _forward(self, ids: Tensor, mask: Tensor, *, keep: int, **options: Any) -> Any:
        if "position_ids" in self._accepted:
            options["position_ids"] = (mask.cumsum(-1) - 1).clamp_min(0)[:, -ids.shape[1] :]
        if "logits_to_keep" in self._accepted:
            options["logits_to_keep"] = keep
        return self._lm.model(input_ids=ids, attention_mask=mask, **options)

    def _padded(self, rows: Sequence[Ids], *, left: bool) -> tuple[Tensor, Tensor]:
        width = max(map(len, rows))
        pads = [[self._pad] * (width - len(row)) for row in rows]
        ids = [[*pad, *row] if left else [*row, *pad] for pad, row in zip(pads, rows, strict=True)]
        ones = [[0] * len(pad) + [1] * (width - len(pad)) for pad in pads]
        return torch.tensor(ids, device=self._lm.device), torch.tensor(ones, device=self._lm.device)


def _selectable(cache: Any) -> bool:
    return all(type(layer).__name__ in SELECTABLE for layer in getattr(cache, "layers", [None]))


def _picked(cache: Any, index: Tensor) -> Any:
    """Return a cache of the chosen rows; the given one stays as it is."""
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]
    for layer in chosen.layers:
        layer.batch_select_indices(index)
    return chosen


def _per_prefix(
    prefixes: Sequence[Ids], continuations: Sequence[Ids] | Sequence[Sequence[Ids]]
) -> list[tuple[tuple[int, ...], ...]]:
    _check(prefixes)
    given: Any = continuations
    if len(given) == 0:
        return [()] * len(prefixes)
    if len(given[0]) == 0 or isinstance(given[0][0], Integral):
        shared = tuple(tuple(row) for row in given)
        lists = [shared] * len(prefixes)
    else:
        lists = [tuple(tuple(row) for row in rows) for rows in given]
    if len(lists) != len(prefixes) or len({len(rows) for rows in lists}) > 1:
        raise ValueError("continuations must be shared, or one equally long list for each prefix")
    if any(len(row) == 0 for rows in set(lists) for row in rows):
        raise ValueError("a continuation has no tokens")
    return lists


def _check(prefixes: Sequence[Ids]) -> None:
    if any(len(prefix) == 0 for prefix in prefixes):
        raise ValueError("a prefix has no tokens; begin with BOS or the prompt")
