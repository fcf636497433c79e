"""Scores equal the plain computation over whole sequences, for every kind of cache."""

from __future__ import annotations

import random
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from subl.artifacts import ModelRef
from subl.models.language import LanguageModel
from subl.models.scoring import continuation_log_probs, next_token_log_probs, scores_and_ranks

VOCABULARY = 40
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
KINDS = {
    "mistral": lambda: tf.MistralForCausalLM(tf.MistralConfig(sliding_window=None, **SIZES)),
    "mistral, sliding window": lambda: tf.MistralForCausalLM(tf.MistralConfig(sliding_window=4, **SIZES)),
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**SIZES)),
    "gemma": lambda: tf.GemmaForCausalLM(tf.GemmaConfig(**SIZES)),
    "gemma2": lambda: tf.Gemma2ForCausalLM(tf.Gemma2Config(sliding_window=5, query_pre_attn_scalar=8, **SIZES)),
    "qwen2": lambda: tf.Qwen2ForCausalLM(tf.Qwen2Config(**SIZES)),
    "gpt2, learned positions": lambda: tf.GPT2LMHeadModel(
        tf.GPT2Config(
            vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2
        )
    ),
    "mamba, no attention": lambda: tf.MambaForCausalLM(
        tf.MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=8)
    ),
}

tokens = st.lists(st.integers(3, VOCABULARY - 1), min_size=1, max_size=6)


@cache
def language_model(kind: str) -> LanguageModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = KINDS[kind]().eval()
    return LanguageModel(ModelRef("test", {}, kind), model, SimpleNamespace(pad_token_id=0), None)  # type: ignore[arg-type]


def plain(lm: LanguageModel, prefix: list[int], continuation: list[int]) -> float:
    """One sequence at a time, all logits, float64."""
    with torch.no_grad():
        logits = lm.model(torch.tensor([[*prefix, *continuation]]), use_cache=False).logits[0]
    steps = logits.double().log_softmax(-1)[len(prefix) - 1 : -1]
    return float(steps.gather(1, torch.tensor(continuation)[:, None]).sum())


def table(lm: LanguageModel, prefixes: list[list[int]], lists: list[list[list[int]]]) -> torch.Tensor:
    return torch.tensor([[plain(lm, p, c) for c in row] for p, row in zip(prefixes, lists, strict=True)])


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_whole_sequences_one_by_one(kind: str) -> None:
    lm, rng = language_model(kind), random.Random(0)

    def draw(low: int, high: int) -> list[int]:
        return [rng.randrange(3, VOCABULARY) for _ in range(rng.randint(low, high))]

    prefixes = [draw(1, 11) for _ in range(6)]
    shared = [*(draw(1, 4) for _ in range(5)), [5], [5, 6], [5, 6, 7], [5, 6, 8], [5, 9]]
    for batch_size in (1, 4, 100):
        scores = continuation_log_probs(lm, prefixes, shared, batch_size=batch_size)
        assert scores.dtype == torch.float32
        assert torch.allclose(scores, table(lm, prefixes, [shared] * 6), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["mistral", "gemma2"])
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_shapes_score_as_whole_sequences(kind: str, data: st.DataObject) -> None:
    lm = language_model(kind)
    prefixes = data.draw(st.lists(tokens, min_size=1, max_size=5))
    width = data.draw(st.integers(1, 4))
    rows = st.lists(tokens, min_size=width, max_size=width)
    lists = data.draw(st.lists(rows, min_size=len(prefixes), max_size=len(prefixes)))
    scores = continuation_log_probs(lm, prefixes, lists, batch_size=data.draw(st.integers(1, 7)))
    assert torch.allclose(scores, table(lm, prefixes, lists), atol=1e-5, rtol=0)


def test_batch_size_and_order_do_not_matter() -> None:
    lm = language_model("llama")
    prefixes = [[3, 4, 5], [6], [7, 8, 9, 10, 11], [6]]
    continuations = [[4], [5, 6], [5, 7, 8]]
    scores = continuation_log_probs(lm, prefixes, continuations, batch_size=2)
    swapped = continuation_log_probs(lm, prefixes[::-1], continuations[::-1], batch_size=9)
    assert torch.allclose(scores, swapped.flip(0, 1), atol=1e-6)
    assert torch.equal(scores[1], scores[3])


def test_next_token_log_probs_are_the_first_step_of_every_continuation() -> None:
    lm = language_model("gemma")
    prefixes = [[3, 4, 5], [6], [7, 8, 9, 10, 11], [6]]
    steps = next_token_log_probs(lm, prefixes, batch_size=2)
    assert steps.shape == (4, VOCABULARY)
    assert torch.allclose(steps.exp().sum(-1), torch.ones(4), atol=1e-5)
    singles = continuation_log_probs(lm, prefixes, [[token] for token in range(VOCABULARY)], batch_size=3)
    assert torch.allclose(steps, singles, atol=1e-6)


def test_ranks_are_those_of_the_whole_distribution() -> None:
    lm = language_model("gemma")
    prefixes, continuations = [[1, 5], [1, 7, 9, 4], [1, 5], [3]], [[7, 8], [9]]
    for ranked in ([11], [11, 30, 4]):
        scores, ranks = scores_and_ranks(lm, prefixes, continuations, ranked, batch_size=2)
        assert torch.equal(scores, continuation_log_probs(lm, prefixes, continuations, batch_size=2))
        whole = next_token_log_probs(lm, prefixes, batch_size=4)
        best = whole[:, ranked].max(dim=1).values
        assert ranks.tolist() == [1 + int((row > level).sum()) for row, level in zip(whole, best, strict=True)]
    assert not scores_and_ranks(lm, prefixes, continuations, [], batch_size=2)[1].any()


def test_equal_prefixes_and_shared_beginnings_are_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, seen = language_model("mistral"), []
    forward = lm.model.forward

    def counting(*args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs["input_ids"].shape)
        return forward(*args, **kwargs)

    counting.__signature__ = __import__("inspect").signature(forward)  # type: ignore[attr-defined]
    monkeypatch.setattr(lm.model, "forward", counting)
    numbers = [[int(digit) + 3 for digit in str(number)] for number in range(1000)]
    continuation_log_probs(lm, [[20, 21, 22, 23]] * 3, numbers, batch_size=1000)
    # One prefix of 4 tokens; then 90 two-digit beginnings stand for all 1,000 numbers, and no last digit is run.
    assert seen == [(1, 4), (90, 2)]


def test_scoring_leaves_the_model_as_it_was() -> None:
    lm = language_model("mistral")
    assert torch.equal(
        continuation_log_probs(lm, [[3, 4]], [[5, 6], [7]], batch_size=1),
        continuation_log_probs(lm, [[3, 4]], [[5, 6], [7]], batch_size=1),
    )


def test_nothing_to_score_gives_an_empty_table() -> None:
    lm = language_model("mistral")
    assert continuation_log_probs(lm, [], [[3]], batch_size=4).shape[0] == 0
    assert continuation_log_probs(lm, [[3], [4]], [], batch_size=4).shape == (2, 0)
    assert next_token_log_probs(lm, [], batch_size=4).shape == (0, VOCABULARY)


@pytest.mark.parametrize(
    ("prefixes", "continuations", "words"),
    [
        ([[]], [[3]], "prefix has no tokens"),
        ([[3]], [[]], "continuation has no tokens"),
        ([[3]], [[4], []], "continuation has no tokens"),
        ([[3], [4]], [[[5]]], "one equally long list"),
        ([[3], [4]], [[[5]], [[6], [7]]], "one equally long list"),
    ],
)
def test_empty_or_uneven_input_is_refused(prefixes: Any, continuations: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        continuation_log_probs(language_model("mistral"), prefixes, continuations, batch_size=4)
