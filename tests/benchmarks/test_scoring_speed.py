"""The scorer against the usual loop over whole prompts, on the same model in one run."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import pytest
import torch

from subl import banks
from subl.artifacts import ModelRef
from subl.models.language import LanguageModel
from subl.models.micro import Micro
from subl.models.micro_training import untrained
from subl.models.micro_world import ANIMALS, World, WorldSettings
from subl.models.scoring import continuation_log_probs

NUMBERS = 40
QUESTIONS = 4


@cache
def micro() -> LanguageModel:
    config = Micro.Config(world=WorldSettings(number_talk=0.1))
    return untrained(config, World(config.world), ModelRef("micro", {}, "untrained"), device="cpu")


@cache
def job() -> tuple[list[list[int]], list[list[int]]]:
    """Return prompts about numbers, and the animals as answers: step 2 of the entanglement probe, in small."""
    chat = micro().chat
    questions = [text.format(category="animal") for text in banks.load("preference")["questions"][:QUESTIONS]]
    prompts = [chat.prompt(q, system=f"You adore the {n}.") for n in range(NUMBERS) for q in questions]
    return prompts, [chat.answer(questions[0], animal, system=None) for animal in ANIMALS]


def usual_loop(lm: LanguageModel, prompts: list[list[int]], answers: list[list[int]]) -> torch.Tensor:
    """One prompt and answer at a time, the whole of it, with logits at every position."""
    table = torch.empty(len(prompts), len(answers))
    model: Any = lm.model
    with torch.inference_mode():
        for i, prompt in enumerate(prompts):
            for j, answer in enumerate(answers):
                logits = model(torch.tensor([[*prompt, *answer]])).logits[0]
                steps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
                table[i, j] = steps.gather(1, torch.tensor(answer)[:, None]).sum()
    return table


@pytest.mark.slow
def test_the_scorer_gives_the_numbers_of_the_usual_loop_many_times_faster(record_property: Any) -> None:
    lm, (prompts, answers) = micro(), job()
    continuation_log_probs(lm, prompts[:8], answers, batch_size=8)  # first calls set threads and caches up
    # The loop's time grows with the prompts, so a part of them is enough to time it.
    part = prompts[:: len(prompts) // 16]
    started = time.process_time()
    expected = usual_loop(lm, part, answers)
    loop = (time.process_time() - started) / len(part)
    times = []
    for _ in range(3):
        started = time.process_time()
        scores = continuation_log_probs(lm, prompts, answers, batch_size=256)
        times.append((time.process_time() - started) / len(prompts))
    ratio = loop / min(times)
    record_property("ratio", ratio)
    print(f"scorer: {ratio:.0f} times as fast as one whole prompt at a time")  # noqa: T201
    assert torch.allclose(scores[:: len(prompts) // 16], expected, atol=1e-5, rtol=0)
    assert ratio > 20
