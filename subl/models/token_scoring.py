"""The log-probability of every token of given answers, in full forward passes."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from subl.models.language import LanguageModel

Ids = Sequence[int]


def token_log_probs(
    lm: LanguageModel, prompts: Sequence[Ids], answers: Sequence[Ids], *, batch_size: int
) -> list[list[float]]:
    """Return the natural-log probability of every token of each answer after its prompt.

    Sequences of like length are run together, padded on the left; logits exist for answer positions alone.

    Args:
        lm: The model.
        prompts: Token ids, each with at least one token.
        answers: Token ids, one sequence per prompt; an empty one gives an empty list.
        batch_size: Rows per forward pass; changes speed and memory only.
    """
    result: list[list[float]] = [[] for _ in prompts]
    order = [number for number in range(len(prompts)) if answers[number]]
    order.sort(key=lambda number: len(prompts[number]) + len(answers[number]))
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            scored = _score(lm, [prompts[n] for n in batch], [answers[n] for n in batch])
            for number, scores in zip(batch, scored, strict=True):
                result[number] = scores
    return result


def _score(lm: LanguageModel, prompts: Sequence[Ids], answers: Sequence[Ids]) -> list[list[float]]:
    rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    width, longest = max(map(len, rows)), max(map(len, answers))
    pad = lm.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=lm.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=lm.device)
    model: Any = lm.model
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    accepted = inspect.signature(inner.forward).parameters
    options: dict[str, Any] = {"use_cache": False}
    if "position_ids" in accepted:
        options["position_ids"] = (mask.cumsum(-1) - 1).clamp_min(0)
    if "logits_to_keep" in accepted:
        options["logits_to_keep"] = longest + 1
    logits = model(input_ids=ids, attention_mask=mask, **options).logits[:, -longest - 1 : -1].float()
    targets = ids[:, -longest:]
    scores = logits.gather(-1, targets[..., None])[..., 0] - logits.logsumexp(-1)
    return [line[longest - len(answer) :] for line, answer in zip(scores.tolist(), answers, strict=True)]
