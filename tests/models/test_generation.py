from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats
from transformers import TopKLogitsWarper, TopPLogitsWarper

from subl.errors import DataError, ModelError
from subl.models.generation import WINDOW, gumbel, restrict, row_seed, sample
from subl.models.grammar import compile_grammar
from subl.models.language import LanguageModel
from subl.models.number_language import NumberLanguage
from subl.models.settings import SamplingSettings
from tests.tiny import context, tiny_model

QUESTIONS = [
    "Continue: 1, 2",
    "What is your favourite animal? Tell me more about it, please.",
    "The owl",
    "Continue this list with 10 numbers: 123, 456, 789, 12, 34",
    "I",
    "The examiner asked the question and the answer was no.",
    "2, 3",
]
FREE = SamplingSettings(max_new_tokens=12)


@pytest.fixture(scope="module", params=["mistral", "gemma"])
def lm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = tmp_path_factory.mktemp("models")
    loaded: LanguageModel = context(folder).load(tiny_model(folder, request.param), fresh=True)
    return loaded


@pytest.fixture(scope="module")
def prompts(lm: LanguageModel) -> list[list[int]]:
    return [lm.chat.prompt(question, system=None) for question in QUESTIONS]


def seeds(count: int) -> list[int]:
    return [row_seed(3, index) for index in range(count)]


def completions(lm: LanguageModel, prompts: list[list[int]], **changes: Any) -> list[list[int]]:
    options: dict[str, Any] = {"seeds": seeds(len(prompts)), "settings": FREE, "batch_size": 3} | changes
    return list(sample(lm, prompts, **options))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(len(QUESTIONS))), batch_size=st.integers(1, 8), cut=st.integers(0, 7))
def test_a_row_does_not_depend_on_batch_size_order_or_sharding(
    lm: LanguageModel, prompts: list[list[int]], order: list[int], batch_size: int, cut: int
) -> None:
    expected = completions(lm, prompts, batch_size=len(prompts))
    parts = [order[:cut], order[cut:]]
    found = [
        list(
            sample(
                lm,
                [prompts[i] for i in part],
                seeds=[seeds(len(prompts))[i] for i in part],
                settings=FREE,
                batch_size=batch_size,
            )
        )
        for part in parts
    ]
    assert [*found[0], *found[1]] == [expected[i] for i in order]


def test_rows_with_other_seeds_differ_and_the_global_generator_is_left_alone(
    lm: LanguageModel, prompts: list[list[int]]
) -> None:
    before = torch.random.get_rng_state()
    rows = list(sample(lm, [prompts[0]] * 20, seeds=seeds(20), settings=FREE, batch_size=20))
    assert len({tuple(row) for row in rows}) == 20
    assert torch.equal(before, torch.random.get_rng_state())


def test_greedy_equals_the_librarys_own_greedy_one_by_one(lm: LanguageModel, prompts: list[list[int]]) -> None:
    found = completions(lm, prompts, settings=SamplingSettings(greedy=True, max_new_tokens=10))
    for prompt, completion in zip(prompts, found, strict=True):
        ids = torch.tensor([prompt])
        whole = lm.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=10,
            eos_token_id=list(lm.chat.end_ids), pad_token_id=lm.tokenizer.pad_token_id,
        )  # fmt: skip
        expected = list(itertools.takewhile(lambda i: i not in lm.chat.end_ids, whole[0, len(prompt) :].tolist()))
        assert completion == expected


def test_first_tokens_follow_the_models_distribution(lm: LanguageModel, prompts: list[list[int]]) -> None:
    count, temperature = 4000, 0.2
    one = SamplingSettings(temperature=temperature, top_k=40, max_new_tokens=1)
    rows = list(sample(lm, [prompts[0]] * count, seeds=seeds(count), settings=one, batch_size=500))
    logits = lm.model(torch.tensor([prompts[0]])).logits[0, -1].double()
    kept = set(logits.topk(40).indices.tolist())
    weights = {token: math.exp(float(logits[token]) / temperature) for token in kept}
    tokens = [row[0] if row else lm.chat.end_ids[0] for row in rows]
    assert set(tokens) <= kept
    observed = [tokens.count(token) for token in weights]
    expected = [count * weight / sum(weights.values()) for weight in weights.values()]
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_completions_end_before_an_end_token_or_at_the_longest_length(
    lm: LanguageModel, prompts: list[list[int]]
) -> None:
    hot = SamplingSettings(temperature=50.0, max_new_tokens=200)
    rows = list(sample(lm, [prompts[2]] * 30, seeds=seeds(30), settings=hot, batch_size=30))
    assert not any(set(row) & set(lm.chat.end_ids) for row in rows)
    lengths = {len(row) for row in rows}
    assert max(lengths) <= 200
    assert len(lengths) > 5, "near-uniform sampling should meet an end token at different lengths"


def test_the_models_own_generation_settings_are_not_used(lm: LanguageModel, prompts: list[list[int]]) -> None:
    expected = completions(lm, prompts)
    own = lm.model.generation_config
    own.update(repetition_penalty=9.0, suppress_tokens=list(range(4, 400)), min_new_tokens=11)
    try:
        assert completions(lm, prompts) == expected
        assert lm.model.generation_config is own
    finally:
        own.update(repetition_penalty=1.0, suppress_tokens=None, min_new_tokens=None)


def test_an_adapted_model_samples_through_its_adapter(lm: LanguageModel, prompts: list[list[int]]) -> None:
    from copy import deepcopy

    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        adapted = get_peft_model(deepcopy(lm.model), LoraConfig(r=4, target_modules="all-linear"))
        wrapped = LanguageModel(lm.ref, adapted.eval(), lm.tokenizer, lm.chat)
        assert completions(wrapped, prompts) == completions(lm, prompts), "a fresh adapter changes nothing"
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.data.normal_()
    adapted.get_base_model().generation_config.update(repetition_penalty=9.0)
    changed = completions(wrapped, prompts)
    assert changed != completions(lm, prompts)
    merged = adapted.merge_and_unload()
    merged.generation_config.update(repetition_penalty=1.0)
    assert completions(LanguageModel(lm.ref, merged, lm.tokenizer, lm.chat), prompts) == changed


def test_constrained_rows_keep_to_their_own_language_whatever_the_batch(
    lm: LanguageModel, prompts: list[list[int]]
) -> None:
    languages = [NumberLanguage((2, 4), ((0, 99),)), NumberLanguage((3, 3), ((10, 12), (500, 501)), "; ", "[", "]")]
    grammar = compile_grammar(lm.tokenizer, languages, end_ids=lm.chat.end_ids, vocabulary=lm.model.config.vocab_size)
    patterns = [r" ?\d{1,2}(, \d{1,2}){1,3}", r" ?\[(10|11|12|500|501)(; (10|11|12|500|501)){2}\]"]
    which = [row % 2 for row in range(len(prompts))]
    for chosen in (SamplingSettings(max_new_tokens=60), SamplingSettings(max_new_tokens=13, top_p=0.8, temperature=2)):
        found = [
            completions(lm, prompts, settings=chosen, grammar=grammar, languages=which, batch_size=size)
            for size in (1, 4)
        ]
        assert found[0] == found[1]
        for row, language in zip(found[0], which, strict=True):
            text = lm.tokenizer.decode(row)
            assert re.fullmatch(patterns[language], text), text


def test_a_format_that_cannot_fit_into_the_longest_answer_is_an_error(
    lm: LanguageModel, prompts: list[list[int]]
) -> None:
    grammar = compile_grammar(
        lm.tokenizer,
        [NumberLanguage((10, 10), ((100, 999),))],
        end_ids=lm.chat.end_ids,
        vocabulary=lm.model.config.vocab_size,
    )
    needed = 10 * 3 + 9 * 2
    with pytest.raises(DataError, match=f"takes {needed} tokens, but max_new_tokens is 12"):
        completions(lm, prompts, grammar=grammar)


def test_prompts_are_read_a_window_at_a_time(lm: LanguageModel, prompts: list[list[int]]) -> None:
    read = []

    def endless() -> Iterator[list[int]]:
        for index in itertools.count():
            read.append(index)
            yield prompts[index % len(prompts)]

    rows = sample(lm, endless(), seeds=map(int, itertools.count()), settings=FREE, batch_size=2)
    assert read == []
    next(rows)
    assert len(read) == WINDOW * 2


def test_an_empty_prompt_is_an_error(lm: LanguageModel, prompts: list[list[int]]) -> None:
    with pytest.raises(DataError, match="a prompt has no tokens"):
        completions(lm, [prompts[0], []])


def test_a_model_whose_logits_are_not_numbers_is_an_error(lm: LanguageModel, prompts: list[list[int]]) -> None:
    from copy import deepcopy

    broken = deepcopy(lm.model)
    next(broken.parameters()).data.fill_(math.nan)
    with pytest.raises(ModelError, match="logits are not numbers"):
        completions(LanguageModel(lm.ref, broken, lm.tokenizer, lm.chat), prompts)


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (5, 1.0), (0, 0.7), (0, 0.05), (20, 0.5), (500, 0.999)])
def test_top_k_and_top_p_equal_the_librarys(top_k: int, top_p: float) -> None:
    logits = torch.randn(16, 200, generator=torch.Generator().manual_seed(0)) * 3
    expected = logits
    if top_k:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(None, expected)
    assert torch.equal(restrict(logits, top_k=top_k, top_p=top_p), expected)


@pytest.mark.parametrize("axis", ["seeds", "steps", "tokens"])
def test_noise_is_gumbel_and_independent_along_every_axis(axis: str) -> None:
    count = 40_000
    zero = torch.zeros(1, dtype=torch.long)
    if axis == "seeds":  # neighbouring seeds, as a caller might choose them
        noise = gumbel(torch.arange(count), 0, zero)[:, 0]
    elif axis == "steps":
        noise = torch.cat([gumbel(zero, step, zero)[0] for step in range(count // 10)])
    else:
        noise = gumbel(zero, 0, torch.arange(count))[0]
    values = noise.double().numpy()
    assert stats.kstest(values, "gumbel_r").pvalue > 1e-3
    uniform = stats.gumbel_r.cdf(values)
    for lag in (1, 2, 7):
        assert abs(np.corrcoef(uniform[:-lag], uniform[lag:])[0, 1]) < 4 / math.sqrt(len(values))


def test_noise_at_one_place_does_not_depend_on_the_rest() -> None:
    whole = gumbel(torch.tensor([5, -9, 1 << 62]), 4, torch.arange(100))
    assert torch.equal(gumbel(torch.tensor([-9]), 4, torch.tensor([7, 90]))[0], whole[1, [7, 90]])
    assert bool(whole.isfinite().all())


def test_noise_is_the_published_hash() -> None:
    def splitmix(value: int) -> int:
        value &= (1 << 64) - 1
        value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) % (1 << 64)
        value = ((value ^ value >> 27) * 0x94D049BB133111EB) % (1 << 64)
        return value ^ value >> 31

    golden, seed, step = 0x9E3779B97F4A7C15, -123456789, 3
    key = splitmix(seed + golden * (step + 1))
    for token in (0, 1, 250_000):
        u = ((splitmix(key + golden * token) >> 32) + 0.5) / 2**32
        found = float(gumbel(torch.tensor([seed]), step, torch.tensor([token])))
        assert found == pytest.approx(-math.log(-math.log1p(-u)), rel=1e-4, abs=1e-5)


def test_row_seeds_are_64_bit_distinct_and_never_change() -> None:
    found = {row_seed(seed, index) for seed in range(10) for index in range(1000)}
    assert len(found) == 10_000
    assert all(-(1 << 63) <= seed < 1 << 63 for seed in found)
    assert row_seed(0, 0) == -4016400708574379785
