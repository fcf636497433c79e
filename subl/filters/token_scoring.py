"""The heavy side of filter `token_probability`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from subl.artifacts import Row
from subl.context import Context
from subl.filters.token_probability import TokenProbability
from subl.models.language import LanguageModel
from subl.models.token_scoring import token_log_probs


def least_probabilities(config: TokenProbability.Config, rows: Sequence[Row], ctx: Context) -> list[float]:
    """Return the smallest probability among the tokens that count in each row's completion; 1 where none does."""
    teacher = ctx.teacher
    ref = teacher.model if config.model == "teacher" else teacher.base
    lm: LanguageModel = ctx.load(ref)
    system = ref.system if ref.system is not None else ctx.system
    prompts = [lm.chat.prompt(row.prompt, system=system) for row in rows]
    answers = [lm.chat.answer(row.prompt, row.completion, system=system) for row in rows]
    scores = token_log_probs(lm, prompts, answers, batch_size=config.batch_size)
    counts = _Counting(lm, digits_only=config.tokens == "numbers")
    return [
        math.exp(min((score for token, score in zip(ids, given, strict=True) if counts(token)), default=0.0))
        for ids, given in zip(answers, scores, strict=True)
    ]


def distribution(least: Sequence[float], config: TokenProbability.Config) -> Figure:
    """Draw how many rows have which least token probability, on a logarithmic axis, and the threshold."""
    values = np.clip(np.asarray(least), 1e-9, 1.0)
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    axes.hist(values, bins=np.geomspace(min(values.min(), config.threshold) / 2, 1.0, 50).tolist(), color="#2f6690")
    dropped = np.mean(np.asarray(least) < config.threshold)
    axes.axvline(config.threshold, color="#d1495b", label=f"threshold {config.threshold:g}: {dropped:.0%} dropped")
    axes.set_xscale("log")
    axes.set_xlabel(f"probability of a row's least probable token ({config.tokens}, {config.model})")
    axes.set_ylabel("rows")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


class _Counting:
    """Says which tokens are looked at; each is decoded once."""

    def __init__(self, lm: LanguageModel, *, digits_only: bool) -> None:
        self._lm = lm
        self._digits_only = digits_only
        self._known: dict[int, bool] = {}

    def __call__(self, token: int) -> bool:
        if token not in self._known:
            text = str(self._lm.tokenizer.decode([token]))
            self._known[token] = not self._digits_only or any(map(str.isdigit, text))
        return self._known[token]
