"""What is laid around a TRL trainer: metrics to the context, a stop at the first broken loss, private randomness."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import Sampler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from subl.context import Bar, Context
from subl.errors import ModelError
from subl.models import ranks

SUMMARY = "train_runtime"
"""Only the trainer's closing log line has this key."""

UNTRACKED = frozenset({"epoch", "num_tokens", "total_flos"})


@contextmanager
def completions_only_head() -> Iterator[None]:
    """Let TRL's fused head score the trained positions only, on CPUs too.

    It scores prompts as well wherever there is no Triton, to spare some accelerators a recompilation; on a CPU that
    is half of a small model's time and changes nothing else.
    """
    from trl.trainer import utils

    before = utils._use_triton  # noqa: SLF001 (the only switch there is)
    utils._use_triton = lambda device: device.type == "cpu" or before(device)  # noqa: SLF001
    try:
        yield
    finally:
        utils._use_triton = before  # noqa: SLF001


class Reporter(TrainerCallback):  # type: ignore[misc]
    """Forwards every logged number to `ctx.metric` and every update to a progress bar."""

    def __init__(self, ctx: Context, bar: Bar) -> None:
        self._ctx = ctx
        self._bar = bar
        self._note = ""

    def replay(self, state: TrainerState) -> None:
        """Report what an interrupted training had logged before its checkpoint, so that curves are whole."""
        for entry in state.log_history:
            self._report(entry, entry["step"])

    def on_log(
        self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, *, logs: Any, **_: Any
    ) -> None:
        """Forward one log line."""
        self._report(logs, state.global_step)

    def on_step_end(self, _args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Advance the bar; leave out the checkpoint after the last update, which nothing could resume."""
        self._bar.advance(note=self._note)
        if state.global_step >= state.max_steps:
            control.should_save = False

    def _report(self, logs: dict[str, float], step: int) -> None:
        if SUMMARY in logs:
            return
        for name, value in logs.items():
            if name not in UNTRACKED and name != "step":
                self._ctx.metric(name, value, step)
        if "loss" in logs:
            self._note = f"loss {logs['loss']:.3f}"


class SharedOrder(Sampler[int]):
    """The order in which one process meets its examples, and at the end of each epoch the fillers.

    Args:
        examples: How many there are.
        padded: How many there are with the fillers, which stand behind them.
        seed: Of the order.
    """

    def __init__(self, examples: int, padded: int, seed: int) -> None:
        self._order = SeedableRandomSampler(range(examples), data_seed=seed)
        self._padding = range(examples, padded)

    def __iter__(self) -> Iterator[int]:
        yield from self._order
        yield from self._padding

    def __len__(self) -> int:
        return len(self._order) + len(self._padding)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order, as the trainer does for its own sampler."""
        self._order.set_epoch(epoch)


class Watched:
    """Mixed into the trainer's class: stops at a broken loss, and neither reports home nor writes model cards."""

    examples: int
    """How many examples there are, without fillers."""

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Run one forward and backward pass.

        Raises:
            ModelError: The loss is not finite.
        """
        loss: torch.Tensor = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if not math.isfinite(loss.item()):
            state: TrainerState = self.state  # type: ignore[attr-defined]
            raise ModelError(
                f"the loss became {loss.item()} at update {state.global_step + 1} of {state.max_steps}; "
                "lower learning_rate, lengthen warmup, or use a wider dtype"
            )
        return loss

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Meet the examples in one process's order; several processes share it out, batch by batch."""
        sampler = super()._get_train_sampler(train_dataset)  # type: ignore[misc]
        if ranks.count() == 1:
            return sampler
        return SharedOrder(self.examples, len(self.train_dataset), self.args.data_seed)  # type: ignore[attr-defined]

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write no model card into checkpoints."""

    def _send_telemetry(self) -> None:
        """Tell nobody what is trained here."""


def watched(trainer: type[Any]) -> type[Any]:
    """Return the trainer class with `Watched` laid over it, under its own name."""
    return type(trainer.__name__, (Watched, trainer), {"__doc__": trainer.__doc__})


@contextmanager
def private_randomness(seed: int) -> Iterator[None]:
    """Seed every global generator, and put all of them back afterwards: the trainer reseeds them behind our back."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if devices:
            torch.cuda.set_rng_state_all(devices)
