# ruff: noqa: T201
"""What an update of every distiller costs, as ratios in one run; with full-size shapes on a GPU, by hand.

    python -m tests.benchmarks.distillation                # tiny but realistic, on a CPU
    python -m tests.benchmarks.distillation --full         # the shapes of Mistral-7B and Gemma-2B, bfloat16, one GPU

Whole updates of the real plugins are timed, optimizer and all; they take turns. The floor is arithmetic: an update of
full fine-tuning is three forward passes of the student, and a teacher that is not cached adds one of its own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

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


def measure(shapes: Shapes, *, updates: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Return seconds per update, and peak memory above sft's in GB (GPU only), of every method; they take turns."""
    # As runs do: otherwise every large tensor costs more than what is computed in it.
    prepare_cpu(None)
    load = Models(shapes)
    seconds: dict[str, list[float]] = {method: [] for method in METHODS}
    peaks = dict.fromkeys(METHODS, 0.0)
    with tempfile.TemporaryDirectory() as home:
        for _ in range(rounds):
            for method in METHODS:
                found, peaks[method] = train(method, load, WARM_UP + updates, Path(home))
                seconds[method] += found
    return {method: (median(seconds[method]), peaks[method] - peaks["sft"]) for method in METHODS}


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
    options = parser.parse_args()
    shapes = FULL if options.full else SMALL
    found = measure(shapes, updates=options.updates, rounds=options.rounds)
    print(f"{'method':<24}{'s / update':>12}{'× sft':>8}{'floor':>8}{'× logit_kd':>12}{'GB above sft':>14}")
    for method, (seconds, memory) in found.items():
        print(
            f"{method:<24}{seconds:>12.3f}{seconds / found['sft'][0]:>8.2f}{floor(method, shapes):>8.2f}"
            f"{seconds / found['logit_kd'][0]:>12.2f}{memory:>14.2f}"
        )


if __name__ == "__main__":
    main()
