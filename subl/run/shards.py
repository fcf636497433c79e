"""Rows in shards: generation is written in whole pieces, so that it continues after the last one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from subl.artifacts import Row, read_rows, write_rows
from subl.errors import DataError

SHARD_ROWS = 512


class Shards:
    """A folder of numbered JSONL files with `SHARD_ROWS` rows each; only the last may be shorter."""

    def __init__(self, folder: Path, *, size: int = SHARD_ROWS) -> None:
        self.folder = folder
        self.size = size
        folder.mkdir(parents=True, exist_ok=True)

    def paths(self) -> list[Path]:
        """Return the shards in order."""
        return sorted(self.folder.glob("[0-9]*.jsonl"))

    def resume(self, warn: Callable[[str], None]) -> int:
        """Return the number of rows in whole shards; drop a damaged or short shard and everything after it."""
        rows = 0
        paths = self.paths()
        for number, path in enumerate(paths):
            problem = self._problem(path, number)
            if problem is not None:
                if problem:
                    warn(f"{problem}; the rows from {rows} on are generated again")
                for late in paths[number:]:
                    late.unlink()
                break
            rows += self.size
        return rows

    def append(self, rows: Iterable[Row], start: int) -> Iterator[Row]:
        """Write rows from row number `start` (a multiple of `size`) on; yield each after its shard is safe on disk."""
        for number, shard in enumerate(_batched(rows, self.size), start=start // self.size):
            path = self.folder / f"{number:06d}.jsonl"
            partial = path.with_suffix(f".{os.getpid()}.partial")
            write_rows(partial, shard)
            partial.replace(path)
            yield from shard

    def rows(self) -> Iterator[Row]:
        """Read all rows in order."""
        for path in self.paths():
            yield from read_rows(path)

    def _problem(self, path: Path, number: int) -> str | None:
        """Return None for a whole shard, "" for a short last one (made again silently), else what is wrong."""
        if path.stem != f"{number:06d}":
            return f"shard {number:06d}.jsonl is missing in {self.folder}"
        try:
            count = sum(1 for _ in read_rows(path))
        except (DataError, UnicodeDecodeError) as error:
            return str(error)
        return None if count == self.size else ""


def _batched(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    source = iter(rows)
    while batch := list(islice(source, size)):
        yield batch
