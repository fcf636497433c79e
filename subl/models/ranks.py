"""Several processes that do one stage together, each a rank of torch's process group. Alone, all of it is a no-op."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def count() -> int:
    """Return how many processes work together; 1 where nobody started several."""
    group = _group()
    return int(group.get_world_size()) if group else 1


def index() -> int:
    """Return this process's number among them, from 0 on."""
    group = _group()
    return int(group.get_rank()) if group else 0


def agreed(value: T) -> T:
    """Return what process 0 holds; all have to ask."""
    group = _group()
    if group is None:
        return value
    held = [value]
    group.broadcast_object_list(held, src=0)
    return held[0]


def barrier() -> None:
    """Wait until all processes are here."""
    agreed(None)


def share(tasks: Iterable[T], work: Callable[[T], R]) -> Iterator[R]:
    """Yield `work(task)` of every task, in order. Each process works on every n-th task, and all get all results.

    Tasks are read lazily, as many as there are processes at a time; every process must bring the same ones.
    """
    group = _group()
    if group is None:
        yield from map(work, tasks)
        return
    own, size = index(), count()
    waiting = iter(tasks)
    while each := list(islice(waiting, size)):
        results: list[Any] = [None] * size
        group.all_gather_object(results, work(each[own]) if own < len(each) else None)
        yield from results[: len(each)]


def _group() -> Any:
    # A process group exists only where torch was imported to make one.
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed if distributed.get_world_size() > 1 else None
