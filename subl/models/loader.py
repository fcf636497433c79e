"""Loading models through their plugins, and keeping the recently used ones so that stages share weights."""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
from collections import OrderedDict
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

from subl.artifacts import ModelRef
from subl.errors import ModelError
from subl.registry.registry import registry

LOW_MEMORY = 0.5
"""Share of a GPU's memory below which kept models make room before another is loaded."""


def resolve_device(device: str) -> str:
    """Return the device that "auto" means here: cuda before mps before cpu. Other names are checked and returned.

    Raises:
        ModelError: The device is not there.
    """
    if device == "cpu":
        return device
    import torch

    kind, _, index = device.partition(":")
    here = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if here[name])
    if kind not in here:
        raise ModelError(f'unknown device {device!r}; use "auto", "cpu", "cuda", "cuda:1" or "mps"')
    if here[kind] <= (int(index) if index.isdigit() else 0) or (index and not index.isdigit()):
        raise ModelError(f'no device {device!r} here ({kind}: {here[kind]} found); use device = "auto"')
    return device


def planned_dtype(dtype: str, device: str) -> str:
    """Return the dtype that a stage will run in, for its fingerprint; imports torch only where there may be a GPU.

    Results of a CPU in float32 and of a GPU in bfloat16 differ, so "auto" alone would not tell them apart.
    """
    if dtype != "auto":
        return dtype
    if device == "cpu" or (device == "auto" and not _may_have_gpu()):
        return "float32"
    return resolve_dtype(dtype, resolve_device(device))


def _may_have_gpu() -> bool:
    return Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi") is not None or Path("/dev/kfd").exists()


def visible_gpus() -> tuple[str, ...]:
    """Return this process's CUDA devices as CUDA_VISIBLE_DEVICES names them; imports torch only where one may be."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return tuple(name.strip() for name in given.split(",") if name.strip() not in ("", "-1"))
    if not _may_have_gpu():
        return ()
    import torch

    return tuple(map(str, range(torch.cuda.device_count())))


def resolve_dtype(dtype: str, device: str) -> str:
    """Return what "auto" means on a resolved device: bfloat16 on GPUs that have it, float32 elsewhere."""
    import torch

    if dtype != "auto":
        return dtype
    if not device.startswith("cuda"):
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


def prepare_cpu(threads: int | None) -> None:
    """Set torch's CPU threads, and let freed memory be used again at once.

    The C library hands large blocks back to the system whenever they are freed; a training step asks for the same
    ones again and again, and clearing them took a third of its time.
    """
    import ctypes

    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):
            library.mallopt(_M_MMAP_THRESHOLD, _KEPT_BLOCK)
            library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BLOCK)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BLOCK = 2**28
"""Bytes; a block up to this size stays with the process when freed."""


class ModelLoader:
    """Keeps the last few models in memory. Models with equal weights share them, whatever their system slot.

    Args:
        device: As in `[compute]`; "auto" is resolved at the first load.
        dtype: As in `[compute]`; a model plugin's own setting goes first.
        keep: Number of models kept on CPU and mps; a GPU also makes room when its memory gets low.
    """

    def __init__(self, *, device: str = "auto", dtype: str = "auto", keep: int = 3) -> None:
        self._device = device
        self._dtype = dtype
        self._keep = keep
        self._kept: OrderedDict[str, Any] = OrderedDict()

    def __call__(self, ref: ModelRef, *, fresh: bool = False, weights: bool = True) -> Any:
        """Return the loaded model; `fresh` gives an own copy that may be changed and is not kept.

        Without `weights` it is what the plugin's `outline` gives, if it has one; that is not kept either.

        Raises:
            ModelError: It cannot be loaded, or does not fit into memory.
        """
        device = resolve_device(self._device)
        dtype = resolve_dtype(self._dtype, device)
        if not weights and hasattr(plugin := _plugin(ref), "outline"):
            return plugin.outline(ref, dtype=dtype)
        if fresh:
            return self._load(ref, device, dtype)
        key = _weights(ref, device, dtype)
        if key not in self._kept:
            while len(self._kept) >= self._keep:
                self._drop_oldest()
            self._kept[key] = self._load(ref, device, dtype)
        self._kept.move_to_end(key)
        loaded = self._kept[key]
        if is_dataclass(loaded) and not isinstance(loaded, type) and getattr(loaded, "ref", ref) != ref:
            return replace(loaded, ref=ref)
        return loaded

    def clear(self) -> None:
        """Forget all kept models."""
        while self._kept:
            self._drop_oldest()

    def _load(self, ref: ModelRef, device: str, dtype: str) -> Any:
        import torch

        self._make_room(device)
        model = _plugin(ref)
        try:
            return model.load(ref, device=device, dtype=dtype)
        except torch.cuda.OutOfMemoryError:
            self.clear()
        try:
            return model.load(ref, device=device, dtype=dtype)
        except torch.cuda.OutOfMemoryError as error:
            raise ModelError(
                f"{ref.plugin} model does not fit into the memory of {device}: {error}; "
                'use quantization = "4bit", dtype = "bfloat16", or a smaller model'
            ) from error

    def _make_room(self, device: str) -> None:
        import torch

        while device.startswith("cuda") and self._kept:
            free, total = torch.cuda.mem_get_info(torch.device(device))
            if free >= LOW_MEMORY * total:
                return
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        import torch

        self._kept.popitem(last=False)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _plugin(ref: ModelRef) -> Any:
    plugin = registry.load("model", ref.plugin)
    return plugin(plugin.Config.model_validate(ref.config))


def _weights(ref: ModelRef, device: str, dtype: str) -> str:
    """Return a key of everything that decides the weights; identity would tell system prompts apart as well."""
    parts = (ref.plugin, ref.config, ref.revision, ref.path, ref.adapters, ref.vectors, device, dtype)
    return json.dumps(parts, sort_keys=True, default=str)
