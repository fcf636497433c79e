"""Arrays of many rows in a folder: each row's of its own size, one file per name, read through the page cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

INDEX = "index.json"


class RowWriter:
    """Writes one row after the other; the index, which makes the folder readable, last.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open = ExitStack()
        self._files: dict[str, BinaryIO] = {}
        self._types: dict[str, str] = {}
        self._shapes: dict[str, list[tuple[int, ...]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._open.close()
        if kind is None:
            index = {name: {"dtype": self._types[name], "shapes": shapes} for name, shapes in self._shapes.items()}
            (self._folder / INDEX).write_text(json.dumps(index), encoding="utf-8")

    def write(self, row: Arrays) -> int:
        """Write the next row, which has the names and dtypes of the first; return its bytes."""
        for name, values in row.items():
            if name not in self._files:
                self._files[name] = self._open.enter_context((self._folder / f"{name}.bin").open("wb"))
                self._types[name], self._shapes[name] = values.dtype.str, []
            self._shapes[name].append(values.shape)
            self._files[name].write(np.ascontiguousarray(values).tobytes())
        return sum(values.nbytes for values in row.values())


class RowFiles:
    """Reads what a `RowWriter` wrote."""

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        self._shapes: dict[str, list[tuple[int, ...]]] = {}
        self._starts: dict[str, NDArray[np.int64]] = {}
        self._values: dict[str, NDArray[Any]] = {}
        for name, stored in index.items():
            shapes = [tuple(shape) for shape in stored["shapes"]]
            self._shapes[name] = shapes
            self._starts[name] = np.cumsum([0, *map(prod, shapes)])
            # An empty file cannot be mapped.
            empty = self._starts[name][-1] == 0
            file, dtype = folder / f"{name}.bin", np.dtype(stored["dtype"])
            self._values[name] = np.empty(0, dtype) if empty else np.memmap(file, dtype, mode="r")

    def __getitem__(self, row: int) -> dict[str, NDArray[Any]]:
        """Return a row's arrays, as views into the files."""
        return {
            name: self._values[name][starts[row] : starts[row + 1]].reshape(self._shapes[name][row])
            for name, starts in self._starts.items()
        }
