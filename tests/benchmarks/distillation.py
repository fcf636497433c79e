# ruff: noqa: T201
"""What an update of every distiller costs, as ratios in one run; with full-size shapes on a GPU, by hand.

    python -m tests.benchmarks.distillation                # tiny but realistic, on a CPU
    python -m tests.benchmarks.distillation --full         # the shapes of Mistral-7B and Gemma-2B, bfloat16, one GPU
    python -m tests.benchmarks.distillation --rounds 12 --only sft logit_kd shd        # narrow intervals of a few

Whole updates of the real plugins are timed, optimizer and all; they take turns, every other round in the opposite
order. Ratios are taken within a round, because what slows the machine slows it for a while; their median has a 95 %
bootstrap interval over rounds. The floor is arithmetic: an update of full fine-tuning is three forward passes of the
student, and a teacher that is not cached adds one of its own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import GemmaConfig, GemmaForCausalLM, MistralConfig, MistralForCausalLM

from subl.artifacts import Dataset, ModelRef, Row, Student, Teacher
from subl.context import Context
from subl.distillers.logit_kd import LogitKd
from subl.distillers.sft import Sft
from subl.distillers.shd import Shd
from subl.distillers.soft_training import Objective, distill
from subl.distillers.student_settings import SoftSettings
from subl.models.chat import Chat
from subl.models.language import LanguageModel
from subl.models.loader import prepare_cpu
from subl.testing.fakes import FakeTrait, RecordingSink, context, dataset
from subl.testing.tiny import tiny_tokenizer

WARM_UP = 2
"""Updates at the start of a training that are not counted."""


class LmOnly:
    """The trainer of the other distillers with the loss on the rows alone, as `sft` has it."""

    class Config(SoftSettings):
        """Settings."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def distill(self, student: ModelRef, teacher: Teacher, data: Dataset, ctx: Context) -> Student:
        """Train."""
        return distill(student, teacher, data, self.config, Objective(lm_weight=1.0), ctx)


METHODS: Mapping[str, tuple[Any, Mapping[str, Any]]] = {
    "sft": (Sft, {}),
    "lm loss alone": (LmOnly, {}),
    "logit_kd": (LogitKd, {"lm_weight": 1.0}),
    "shd": (Shd, {}),
    "shd + logit_kd": (Shd, {"logit_weight": 1.0}),
    "logit_kd, cached": (LogitKd, {"lm_weight": 1.0, "teacher_cache": True}),
    "shd, cached": (Shd, {"teacher_cache": True}),
    "shd + logit_kd, cached": (Shd, {"logit_weight": 1.0, "teacher_cache": True}),
}


@dataclass(frozen=True)
class Shapes:
    """Sizes of the two models, and of a batch.

    Args:
        teacher: Of a MistralConfig.
        student: Of a GemmaConfig.
        batch: Rows per step.
        numbers: Numbers in a prompt and in an answer.
        device: Where.
        dtype: In what.
    """

    teacher: Mapping[str, int]
    student: Mapping[str, int]
    batch: int
    numbers: int
    device: str = "cpu"
    dtype: torch.dtype = torch.float32


def sizes(hidden: int, mlp: int, layers: int, heads: int, kv_heads: int, width: int, vocabulary: int) -> dict[str, int]:
    """Return a config's sizes."""
    return {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": width,
        "vocab_size": vocabulary,
    }


SMALLEST = Shapes(sizes(64, 128, 2, 8, 2, 8, 420), sizes(32, 64, 2, 4, 1, 8, 420), 4, 8)
SMALL = Shapes(sizes(768, 2688, 6, 32, 8, 24, 4000), sizes(512, 2048, 4, 8, 1, 64, 4000), 8, 10)
"""Like the real pair in head counts, and in tokens per width: about 1 to 10."""
FULL = Shapes(
    sizes(4096, 14336, 32, 32, 8, 128, 32000),
    sizes(2048, 16384, 18, 8, 1, 256, 256000),
    8,
    40,
    "cuda",
    torch.bfloat16,
)


@dataclass
class Models:
    """Loads random models of these shapes, with small tokenizers of the two kinds; the teacher is kept."""

    shapes: Shapes
    kept: dict[str, LanguageModel] = field(default_factory=dict)

    def __call__(self, ref: ModelRef, *, fresh: bool, weights: bool) -> LanguageModel:
        """Return a model by its architecture; its weights are made, not read."""
        if fresh or ref.identity not in self.kept:
            self.kept.pop(ref.identity, None)
            self.kept[ref.identity] = self._load(ref)
        return self.kept[ref.identity]

    def _load(self, ref: ModelRef) -> LanguageModel:
        mistral = ref.identity == "mistral"
        tokenizer = tiny_tokenizer(ref.identity)
        options: dict[str, Any] = {"pad_token_id": tokenizer.pad_token_id}
        torch.manual_seed(0)
        with torch.device(self.shapes.device):
            model: Any = (
                MistralForCausalLM(MistralConfig(**self.shapes.teacher, **options))
                if mistral
                else GemmaForCausalLM(GemmaConfig(**self.shapes.student, **options))
            )
        model = model.to(self.shapes.dtype).eval().requires_grad_(requires_grad=False)
        return LanguageModel(ref, model, tokenizer, Chat(tokenizer))


class Stopwatch(RecordingSink):
    """Notes when every update ended, and the memory that it took."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.cuda = device == "cuda"
        self.ends: list[float] = []

    @contextmanager
    def bar(self, label: str, total: int | None, done: int) -> Iterator[Any]:
        """Watch the bar of the training."""
        self.watching = label == "student"
        yield self

    def advance(self, steps: int = 1, *, note: str = "") -> None:
        """Note the time; on a CPU that of this process, whatever else runs beside it."""
        if not self.watching:
            return
        if self.cuda:
            torch.cuda.synchronize()
            if len(self.ends) == 0:
                torch.cuda.reset_peak_memory_stats()
        self.ends.append(time.perf_counter() if self.cuda else time.process_time())

    @property
    def updates(self) -> list[float]:
        """Return the seconds of every update that counts."""
        ends = self.ends[WARM_UP - 1 :]
        return [stop - start for start, stop in pairwise(ends)]


def train(method: str, load: Models, updates: int, home: Path) -> tuple[list[float], float]:
    """Train a student for some updates; return their seconds and the peak of memory in GB (GPU only)."""
    plugin, settings = METHODS[method]
    shapes = load.shapes
    listed = [
        ", ".join(str((7 * i + number) % 90 + 10) for number in range(shapes.numbers)) for i in range(shapes.batch)
    ]
    training = {"method": "full", "updates": updates, "batch_size": shapes.batch, "checkpoint_every": 0}
    watch = Stopwatch(shapes.device)
    with tempfile.TemporaryDirectory() as folder:
        ctx = replace(
            context(Path(folder), store=home, trait=FakeTrait()), sink=watch, loader=load, device=shapes.device
        )
        data = dataset(Path(folder), [Row(i, f"Go on: {text}", text) for i, text in enumerate(listed)])
        student, teacher = ModelRef("hub", {}, "gemma"), ModelRef("hub", {}, "mistral")
        plugin(plugin.Config(**training, **settings)).distill(student, Teacher(teacher, teacher), data, ctx)
    return watch.updates, torch.cuda.max_memory_allocated() / 1e9 if watch.cuda else 0.0


@dataclass(frozen=True)
class Cost:
    """What one method costs.

    Args:
        seconds: Per update, the median of every round.
        memory: Peak above sft's in GB (GPU only).
    """

    seconds: tuple[float, ...]
    memory: float

    def over(self, other: Cost) -> tuple[float, float, float]:
        """Return the median over rounds of this cost / another's, and its 95 % bootstrap interval."""
        ratios = np.array(self.seconds) / np.array(other.seconds)
        drawn = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
        low, high = np.percentile(np.median(drawn, axis=1), (2.5, 97.5))
        return float(np.median(ratios)), float(low), float(high)


def measure(shapes: Shapes, *, updates: int, rounds: int, methods: Sequence[str] = tuple(METHODS)) -> dict[str, Cost]:
    """Return what every method costs; they take turns."""
    # As runs do: otherwise every large tensor costs more than what is computed in it.
    prepare_cpu(None)
    load = Models(shapes)
    seconds: dict[str, list[float]] = {method: [] for method in methods}
    peaks = dict.fromkeys(methods, 0.0)
    with tempfile.TemporaryDirectory() as home:
        for number in range(rounds):
            for method in methods if number % 2 == 0 else reversed(methods):
                found, peaks[method] = train(method, load, WARM_UP + updates, Path(home))
                seconds[method].append(median(found))
    return {method: Cost(tuple(seconds[method]), peaks[method] - peaks.get("sft", 0.0)) for method in methods}


def floor(method: str, shapes: Shapes) -> float:
    """Return the least multiple of an update of sft that arithmetic allows, by the weights that multiply a token."""
    if method in ("sft", "lm loss alone") or "cached" in method:
        return 1.0
    teacher, student = (
        shape["num_hidden_layers"]
        * (
            2 * shape["hidden_size"] * shape["head_dim"] * (shape["num_attention_heads"] + shape["num_key_value_heads"])
            + 3 * shape["hidden_size"] * shape["intermediate_size"]
        )
        for shape in (shapes.teacher, shapes.student)
    )
    # Of all tokens, about half are a completion's, which need the student's head.
    head = shapes.student["hidden_size"] * shapes.student["vocab_size"] / 2
    return 1 + teacher / (3 * (student + head))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="full-size shapes on one GPU")
    parser.add_argument("--rounds", type=int, default=3, help="trainings per method")
    parser.add_argument("--updates", type=int, default=8, help="updates per training that count")
    parser.add_argument("--only", nargs="+", choices=tuple(METHODS), default=tuple(METHODS), help="methods to time")
    options = parser.parse_args()
    shapes = FULL if options.full else SMALL
    found = measure(shapes, updates=options.updates, rounds=options.rounds, methods=options.only)
    references = [name for name in ("sft", "logit_kd") if name in found]
    titles = "".join(f"{'× ' + name:>22}" for name in references)
    print(f"{'method':<24}{'s / update':>12}{'floor':>8}{titles}{'GB above sft':>14}")
    for method, cost in found.items():
        ratios = (cost.over(found[name]) for name in references)
        cells = "".join(f"{f'{ratio:.3f} [{low:.3f}, {high:.3f}]':>22}" for ratio, low, high in ratios)
        print(f"{method:<24}{median(cost.seconds):>12.3f}{floor(method, shapes):>8.2f}{cells}{cost.memory:>14.2f}")


if __name__ == "__main__":
    main()
