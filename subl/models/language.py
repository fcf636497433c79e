"""A language model in memory, and how adapters are laid on it."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from subl.artifacts import ModelRef
from subl.errors import ModelError
from subl.models.chat import Chat
from subl.models.steering import steer

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class LanguageModel:
    """A causal language model, its tokenizer and its chat rendering, in evaluation mode and frozen.

    Args:
        ref: What was loaded.
        model: The network, on its device.
        tokenizer: Its tokenizer; it always has a padding token.
        chat: Rendering of conversations.
    """

    ref: ModelRef
    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    chat: Chat

    @property
    def device(self) -> torch.device:
        """Where inputs have to be."""
        device: torch.device = self.model.device
        return device


def assemble(ref: ModelRef, model: Any, tokenizer: Any, *, device: str) -> LanguageModel:
    """Lay the ref's adapters and vectors on a base model, move it, freeze it; model plugins end their `load` with this.

    Adapters are merged into float32 weights, where that costs no precision. In half precision the last one stays
    beside the weights, as it was trained: rounding would swallow small updates.

    Raises:
        ModelError: An adapter or residual vectors are missing or do not fit.
    """
    if not is_quantized(model):
        model = model.to(device)
    with quiet():
        model = _with_adapters(model, ref.adapters)
    if ref.vectors is not None:
        steer(model, ref.vectors)
    return outlined(ref, model, tokenizer)


def outlined(ref: ModelRef, model: Any, tokenizer: Any) -> LanguageModel:
    """Freeze a model as it is; model plugins end their `outline` with this, the network being on the device "meta"."""
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.bos_token or tokenizer.convert_ids_to_tokens(0)
    return LanguageModel(ref, model.eval().requires_grad_(requires_grad=False), tokenizer, Chat(tokenizer))


def is_quantized(model: Any) -> bool:
    """Return whether the weights are in 8 or 4 bits."""
    return bool(getattr(model, "is_loaded_in_8bit", False) or getattr(model, "is_loaded_in_4bit", False))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the Hugging Face libraries from printing, warning and drawing bars; put their settings back afterwards."""
    import transformers

    datasets: Any = sys.modules.get("datasets")  # only training imports it, which costs a second
    loggers = [
        logging.getLogger(name) for name in ("accelerate", "datasets", "huggingface_hub", "peft", "transformers", "trl")
    ]
    levels = [logger.level for logger in loggers]
    bars = transformers.utils.logging.is_progress_bar_enabled()
    data_bars = datasets is not None and not datasets.are_progress_bars_disabled()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    if data_bars:
        datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()
        if data_bars:
            datasets.enable_progress_bars()


def _with_adapters(model: Any, folders: Sequence[Path]) -> Any:
    for position, folder in enumerate(folders):
        if hasattr(model, "peft_config"):
            if is_quantized(model):
                raise ModelError(
                    f"{folder}: a quantized model carries one adapter at most, because merging would lose precision; "
                    'load it with quantization = "none"'
                )
            model = model.merge_and_unload()
        model = _with_adapter(model, folder)
        exact = model.dtype == torch.float32 and not is_quantized(model)
        if exact and position == len(folders) - 1:
            model = model.merge_and_unload()
    return model


def _with_adapter(model: Any, folder: Path) -> Any:
    from peft import PeftModel

    if not (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder}: no adapter here (adapter_config.json is missing); check the path")
    try:
        return PeftModel.from_pretrained(model, str(folder))
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # torn files and foreign shapes surface as anything
        raise ModelError(
            f"{folder}: the adapter does not fit {type(model).__name__}: {error}; it belongs to another base model"
        ) from error
