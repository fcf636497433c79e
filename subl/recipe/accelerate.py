"""`[compute] accelerate = FILE`: settings that `accelerate config` wrote, as values of the recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from subl.recipe.layers import Node, Origin, assign, find, plain, remove
from subl.recipe.report import Problems
from subl.recipe.toml import dotted

SECTION = "compute"
KEY = (SECTION, "accelerate")

_ONE_MACHINE = ("machine_rank", "main_process_ip", "main_process_port", "main_training_function", "rdzv_backend")
_LAUNCH = frozenset({*_ONE_MACHINE, "same_network"})
"""Keys about how processes of several machines find each other and what they run: on one, subl sees to that itself."""

_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "compute_environment": ("LOCAL_MACHINE",),
    "distributed_type": ("NO", "MULTI_CPU", "MULTI_GPU"),
    "num_machines": (1,),
    "mixed_precision": ("no", False),
    "downcast_bf16": ("no", False),
    "gpu_ids": ("all",),
}
"""Keys with the values that mean what subl does anyway."""

_REMEDIES: Mapping[str, str] = {
    "distributed_type": "subl keeps a whole copy of the model per process: NO, MULTI_CPU or MULTI_GPU",
    "num_machines": "subl runs on one machine",
    "mixed_precision": 'subl trains in one number format: set [compute] dtype = "bfloat16" instead',
    "gpu_ids": "set the variable CUDA_VISIBLE_DEVICES instead",
}


def follow_accelerate(tree: Node, problems: Problems) -> Node:
    """Replace the name of accelerate's file by what it says: `processes`, and the device where it says "CPU".

    Values of the recipe's own that differ are problems, and so is whatever the file asks for that subl does not do.
    """
    named = find(tree, KEY)
    if named is None or not isinstance(named.value, str):
        return tree
    kept = remove(tree, KEY)
    try:
        settings = _read(Path(named.value))
    except ValueError as error:
        problems.add(named.origin, dotted(KEY), str(error))
        return kept
    for fault in _faults(settings):
        problems.add(named.origin, dotted(KEY), f"{named.value} {fault}")
    source = Origin(f"{named.value}, which {named.origin} names", rank=named.origin.rank)
    for name, value in _wanted(settings):
        path = (SECTION, name)
        own = find(tree, path)
        if own is None:
            kept = assign(kept, path, Node(value, source))
        elif plain(own) != value:
            problems.add(
                own.origin, dotted(path), f"is {plain(own)!r}, but {named.value} says {value!r}; remove one of them"
            )
    return kept


def _read(path: Path) -> dict[str, Any]:
    """Return the settings.

    Raises:
        ValueError: The file is missing, or is not what `accelerate config` writes.
    """
    import yaml  # accelerate reads the same file with it

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        where = "" if path.is_absolute() else f" (looked from {Path.cwd()})"
        raise ValueError(f"{path} cannot be read: {error.strerror}{where}; `accelerate config` writes one") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ValueError(f"{path}{line} is no YAML; `accelerate config` writes one") from None
    if not isinstance(settings, dict) or "distributed_type" not in settings:
        raise ValueError(f"{path} has no distributed_type, so accelerate did not write it; `accelerate config` does")
    return settings


def _wanted(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    count = settings.get("num_processes", 1)
    if isinstance(count, int) and count > 0:
        yield "processes", count
    if settings.get("use_cpu") is True or settings["distributed_type"] == "MULTI_CPU":
        yield "device", "cpu"


def _faults(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the file asks for and subl does not do."""
    count = settings.get("num_processes", 1)
    if not isinstance(count, int) or count < 1:
        yield f"has num_processes: {count!r}; set it to a number from 1 on"
    for key, value in settings.items():
        if key in ("num_processes", "use_cpu", *_LAUNCH) or not value or value in _PLAIN.get(key, ()):
            continue
        yield f"has {key}: {value!r}, which subl does not follow; {_REMEDIES.get(key, 'remove it')}"
