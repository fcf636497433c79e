"""Sampling whose rows depend on their own seed only: not on batch size, batch composition, order or sharding."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from subl.errors import DataError, ModelError
from subl.models import ranks
from subl.models.settings import SamplingSettings

if TYPE_CHECKING:
    from subl.models.grammar import Grammar
    from subl.models.language import LanguageModel

WINDOW = 4
"""Batches among which prompts are sorted by length, to save padding; rows wait for at most that many."""
MAX_NOISE = 1 << 24
"""Noise values drawn at once; bounds memory for large vocabularies."""


class _Request(NamedTuple):
    prompt: Sequence[int]
    seed: int
    language: int


def row_seed(seed: int, index: int) -> int:
    """Return the sampling seed of row `index` in a stage with `seed`: 64 bits, the same on every machine."""
    digest = blake2b(f"row {seed} {index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def sample(
    lm: LanguageModel,
    prompts: Iterable[Sequence[int]],
    *,
    seeds: Iterable[int],
    settings: SamplingSettings,
    grammar: Grammar | None = None,
    languages: Iterable[int] | None = None,
    batch_size: int,
) -> Iterator[list[int]]:
    """Yield one completion per prompt, in order, as token ids without the end token.

    Sampling is Gumbel-max: noise comes from a hash of (row seed, step, token), the most likely token after adding it
    is taken (Gumbel 1954; Maddison et al. 2014). A row's tokens depend on its prompt and seed alone as far as the
    model's logits do; in 16-bit arithmetic logits differ slightly between batch shapes, so that near-ties may fall
    otherwise. The model's own generation settings are not used. Several processes (see `ranks`) share the work, and
    each yields every row.

    Args:
        lm: The model that answers.
        prompts: Token ids, not empty; read lazily.
        seeds: One seed per prompt, 64 bits; see `row_seed`.
        settings: Temperature, top-p, top-k or greedy, and the longest completion.
        grammar: Restricts completions to its languages; every completion is then complete.
        languages: Which of the grammar's languages each row follows; unset = all rows the first.
        batch_size: Rows per forward pass; changes speed only.

    Raises:
        DataError: A prompt is empty, or the shortest text of the grammar is longer than `settings` allow.
        ModelError: The model's logits are not numbers.
    """
    if grammar is not None:
        grammar = grammar.to(lm.device)
    seeded = zip(prompts, seeds, strict=True)
    rows = zip(seeded, repeat(0)) if languages is None else zip(seeded, languages, strict=True)
    requests = (_Request(prompt, seed, language) for (prompt, seed), language in rows)
    # Whole windows are shared out among processes, so that each batch is the one that a single process would make.
    windows = iter(lambda: list(islice(requests, WINDOW * batch_size)), [])
    for completions in ranks.share(windows, lambda window: _window(lm, window, settings, grammar, batch_size)):
        yield from completions


def _window(
    lm: LanguageModel,
    window: Sequence[_Request],
    settings: SamplingSettings,
    grammar: Grammar | None,
    batch_size: int,
) -> list[list[int]]:
    # Longest first: what does not fit into memory fails at once.
    order = sorted(range(len(window)), key=lambda i: -len(window[i].prompt))
    completions: dict[int, list[int]] = {}
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        batch = [window[i] for i in chosen]
        completions.update(zip(chosen, _generate(lm, batch, settings, grammar), strict=True))
    return [completions[i] for i in range(len(window))]


def _generate(
    lm: LanguageModel, batch: Sequence[_Request], settings: SamplingSettings, grammar: Grammar | None
) -> list[list[int]]:
    ends = set(lm.chat.end_ids)
    pad = lm.tokenizer.pad_token_id
    pad = min(ends) if pad is None else pad
    ids, mask = _left_padded([request.prompt for request in batch], pad, lm.device)
    sampler = _Sampler(batch, ids.shape[1], settings, grammar, lm.device)
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=settings.max_new_tokens,
        eos_token_id=sorted(ends),
        pad_token_id=pad,
    )
    with torch.inference_mode(), _without_own_settings(lm.model):
        output = lm.model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            logits_processor=LogitsProcessorList([sampler]),
        )
    return [_until(row, ends) for row in output[:, ids.shape[1] :].tolist()]


def _left_padded(prompts: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    longest = max(map(len, prompts))
    if not all(prompts):
        raise DataError(
            "a prompt has no tokens; a model without a beginning-of-text token needs some text to go on from"
        )
    ids = [[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _until(ids: list[int], ends: set[int]) -> list[int]:
    return ids[: next((i for i, token in enumerate(ids) if token in ends), len(ids))]


@contextmanager
def _without_own_settings(model: Any) -> Iterator[None]:
    # `generate` fills whatever is unset from the model's own generation_config (a repetition penalty, say).
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    own = inner.generation_config
    inner.generation_config = GenerationConfig()
    try:
        yield
    finally:
        inner.generation_config = own


class _Sampler(LogitsProcessor):  # type: ignore[misc]
    """Chooses each row's next token and leaves it as the only one with a finite score."""

    def __init__(
        self,
        batch: Sequence[_Request],
        prompt_length: int,
        settings: SamplingSettings,
        grammar: Grammar | None,
        device: torch.device,
    ) -> None:
        self.prompt_length = prompt_length
        self.settings = settings
        self.grammar = grammar
        self.seeds = torch.tensor([request.seed for request in batch], dtype=torch.long, device=device)
        if grammar is not None:
            languages = [request.language for request in batch]
            _check_length(grammar, languages, settings.max_new_tokens)
            self.states = grammar.begin(languages)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = input_ids.shape[1] - self.prompt_length
        if step == 0 and bool(scores.isnan().any()):
            raise ModelError("the model's logits are not numbers; its weights are broken, or the dtype is too narrow")
        if self.grammar is None:
            choice = self._choose(scores, torch.arange(scores.shape[1], device=scores.device), step)
        else:
            if step > 0:
                self.states = self.grammar.step(self.states, input_ids[:, -1])
            allowed = self.grammar.allowed(self.states, self.settings.max_new_tokens - step)
            logits = scores[:, self.grammar.tokens].masked_fill(~allowed, -math.inf)
            choice = self.grammar.tokens[self._choose(logits, self.grammar.tokens, step)]
        return torch.full_like(scores, -math.inf).scatter_(1, choice[:, None], 0.0)

    def _choose(self, logits: Tensor, tokens: Tensor, step: int) -> Tensor:
        if self.settings.greedy:
            return logits.argmax(1)
        logits = restrict(logits / self.settings.temperature, top_k=self.settings.top_k, top_p=self.settings.top_p)
        size = max(1, MAX_NOISE // logits.shape[1])
        parts = zip(torch.split(logits, size), torch.split(self.seeds, size), strict=True)
        return torch.cat([(part + gumbel(seeds, step, tokens)).argmax(1) for part, seeds in parts])


def _check_length(grammar: Grammar, languages: Iterable[int], most: int) -> None:
    needed = max(grammar.shortest(language) for language in set(languages))
    if needed > most:
        raise DataError(
            f"the shortest answer that fits the asked format takes {needed} tokens, but max_new_tokens is {most}; "
            "raise `sampling.max_new_tokens` or ask for fewer numbers"
        )


def restrict(logits: Tensor, *, top_k: int, top_p: float) -> Tensor:
    """Set logits outside the `top_k` most likely tokens, then outside the nucleus of mass `top_p`, to -inf [rows, n].

    The nucleus (Holtzman et al. 2020) is the smallest set of most likely tokens that holds at least `top_p`.
    """
    if 0 < top_k < logits.shape[1]:
        least = logits.topk(top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    if top_p < 1:
        ordered, order = logits.sort(dim=1, descending=True, stable=True)
        shares = ordered.softmax(1)
        outside = shares.cumsum(1) - shares >= top_p
        logits = logits.masked_fill(outside.scatter(1, order, outside), -math.inf)
    return logits


def gumbel(seeds: Tensor, step: int, tokens: Tensor) -> Tensor:
    """Return standard Gumbel noise for each seed and token at one step, float32 [seeds, tokens].

    Counter-based: each value is a hash of its own (seed, step, token), so that no value depends on what else is drawn,
    on the device, or on any generator's state.
    """
    keys = _mixed(seeds + _wrapped(_GOLDEN * (step + 1)))
    bits = _mixed(keys[:, None] + tokens * _wrapped(_GOLDEN)) >> 32 & 0xFFFFFFFF
    # Noise is large where u is near 0: there float32 keeps every bit of it.
    u = bits.float().add_(0.5).mul_(2.0**-32).clamp_(max=1 - 2.0**-24)
    return u.neg_().log1p_().neg_().log_().neg_()


def _wrapped(value: int) -> int:
    """Return the low 64 bits as a signed number, as tensors hold them."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


# SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _mixed(values: Tensor) -> Tensor:
    values = (values ^ _shifted(values, 30)).mul_(_wrapped(_FIRST))
    values.bitwise_xor_(_shifted(values, 27)).mul_(_wrapped(_SECOND))
    return values.bitwise_xor_(_shifted(values, 31))


def _shifted(values: Tensor, bits: int) -> Tensor:
    """Shift right as unsigned numbers; tensors of signed ones would copy the sign."""
    return (values >> bits).bitwise_and_((1 << (64 - bits)) - 1)
