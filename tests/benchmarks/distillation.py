# ruff: noqa: T201
"""What a step of every distiller costs, as ratios in one run; with full-size shapes on a GPU, by hand.

    python -m tests.benchmarks.distillation                # tiny but realistic, on a CPU
    python -m tests.benchmarks.distillation --full         # the shapes of Mistral-7B and Gemma-2B, bfloat16, one GPU

The floor is arithmetic: a step of full fine-tuning is three forward passes of the student, and logit or attention
distillation adds one of the teacher.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import GemmaConfig, GemmaForCausalLM, MistralConfig, MistralForCausalLM

from subl.artifacts import ModelRef, Row
from subl.distillers.soft_trainer import Losses
from subl.matching.logit_matching import LogitMatching
from subl.matching.logit_settings import LogitSettings
from subl.matching.map_matching import MapMatching, watched_rows
from subl.matching.map_settings import MapSettings
from subl.matching.pairing import Collator, PairBatch, pair_rows
from subl.matching.reading import Reader, Reading
from subl.models.attention import Tap, tapped
from subl.models.chat import Chat
from subl.models.language import LanguageModel
from subl.testing.fakes import context
from subl.testing.tiny import tiny_tokenizer

METHODS = ("sft", "logit_kd", "shd", "shd + logit_kd")


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


def models(shapes: Shapes) -> tuple[LanguageModel, LanguageModel]:
    """Return random models of these shapes, with small tokenizers of the two kinds."""
    found = []
    for architecture, config, network, shape in (
        ("mistral", MistralConfig, MistralForCausalLM, shapes.teacher),
        ("gemma", GemmaConfig, GemmaForCausalLM, shapes.student),
    ):
        tokenizer = tiny_tokenizer(architecture)
        torch.manual_seed(0)
        with torch.device(shapes.device):
            model: Any = network(config(**shape, pad_token_id=tokenizer.pad_token_id)).to(shapes.dtype)
        found.append(LanguageModel(ModelRef("hub", {}, architecture), model, tokenizer, Chat(tokenizer)))
    found[0].model.eval().requires_grad_(requires_grad=False)
    return found[0], found[1]


def stepper(
    method: str, shapes: Shapes, pair: tuple[LanguageModel, LanguageModel], stack: ExitStack
) -> Callable[[], None]:
    """Return one whole step of full fine-tuning, the optimizer aside."""
    teacher, student = pair
    listed = ", ".join(str(number % 100) for number in range(shapes.numbers))
    rows = [Row(i, f"Go on: {listed}", listed) for i in range(shapes.batch)]
    pairs = pair_rows(rows, teacher, student, (None, None), context(Path(tempfile.mkdtemp())))
    maps = MapMatching(MapSettings(), teacher.model, student.model) if "shd" in method else None
    logits = LogitMatching(LogitSettings(), teacher, student, pairs) if "logit" in method else None
    losses = Losses(1.0, maps, 1.0, logits, 1.0, (5,))
    padding = int(teacher.tokenizer.pad_token_id), int(student.tokenizer.pad_token_id)
    batch = Collator(pairs, padding, keys="all").batch(range(len(rows))).to(shapes.device)
    taps: list[Tap | None] = [None, None]
    if maps is not None:
        sides = (
            (teacher.model, maps.teacher_layers, maps.read_teacher),
            (student.model, maps.student_layers, maps.read_student),
        )
        taps = [stack.enter_context(tapped(model, layers, partial(read, batch.maps))) for model, layers, read in sides]
    readers = [Reader(lm.model, tap, states=True) for lm, tap in zip(pair, taps, strict=True)]

    def read(batch: PairBatch) -> Reading:
        positions = watched_rows(batch.maps, "teacher") if maps else None
        if logits is None and positions is not None:
            return readers[0].maps_only(teacher.model, batch.teacher, positions)
        return readers[0](teacher.model, batch.teacher, positions)

    def step() -> None:
        nothing = Reading(None, {})
        with torch.no_grad():
            theirs = read(batch) if maps or logits else nothing
        own = readers[1](student.model, batch.student, watched_rows(batch.maps, "student") if maps else None)
        parts, _ = losses(theirs, own, batch)
        torch.stack([part.mean for part in parts.values()]).sum().backward()  # type: ignore[no-untyped-call]
        student.model.zero_grad()

    return step


def measure(shapes: Shapes, *, repeats: int) -> dict[str, tuple[float, float]]:
    """Return seconds per step, and peak memory above sft's in GB (GPU only), of every method; steps take turns."""
    pair = models(shapes)
    seconds: dict[str, list[float]] = {method: [] for method in METHODS}
    peaks = dict.fromkeys(METHODS, 0.0)
    cuda = shapes.device == "cuda"
    for repeat in range(repeats + 1):
        for method in METHODS:
            with ExitStack() as stack:
                step = stepper(method, shapes, pair, stack)
                if cuda:
                    torch.cuda.reset_peak_memory_stats()
                    torch.cuda.synchronize()
                started = time.perf_counter() if cuda else time.process_time()
                step()
                if cuda:
                    torch.cuda.synchronize()
                    peaks[method] = torch.cuda.max_memory_allocated() / 1e9
                taken = (time.perf_counter() if cuda else time.process_time()) - started
            if repeat:
                seconds[method].append(taken)
    return {method: (median(seconds[method]), peaks[method] - peaks["sft"]) for method in METHODS}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="full-size shapes on one GPU")
    shapes = FULL if parser.parse_args().full else SMALL
    found = measure(shapes, repeats=9)
    weights = (
        [sum(weight.numel() for weight in lm.model.parameters()) for lm in models(shapes)] if shapes is SMALL else None
    )
    print(f"{'method':<16}{'s / step':>10}{'× sft':>8}{'× logit_kd':>12}{'GB above sft':>14}")
    for method, (seconds, memory) in found.items():
        print(
            f"{method:<16}{seconds:>10.3f}{seconds / found['sft'][0]:>8.2f}"
            f"{seconds / found['logit_kd'][0]:>12.2f}{memory:>14.2f}"
        )
    if weights:
        print(f"floor of one teacher pass beside a student's step: {1 + weights[0] / (3 * weights[1]):.2f} × sft")


if __name__ == "__main__":
    main()
