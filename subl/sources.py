"""Reading data files and hub data sets record by record, each with the place that messages name. Light."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import Field, model_validator

from subl.errors import DataError, suggest
from subl.registry.config import StrictModel

SUFFIXES = (".jsonl", ".ndjson", ".csv", ".parquet")
"""Endings of the files that `records` can read."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_BOM = b"\xef\xbb\xbf"


class Source(StrictModel):
    """A file, or a data set of the hub."""

    endings: ClassVar[tuple[str, ...]] = SUFFIXES
    """What names of files end in; any other source is a name on the hub."""

    source: str = Field(min_length=1)
    """A file, from the current folder; else a name on the hub."""
    subset: str | None = None
    """Configuration of a hub data set."""
    split: str | None = None
    """Split of a hub data set; "train" unless set."""
    revision: str | None = None
    """Branch, tag or commit of a hub data set; its default branch unless set."""

    @property
    def is_file(self) -> bool:
        """Whether the source is a file."""
        return self.source.endswith(self.endings)

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        given = [name for name in ("subset", "split", "revision") if getattr(self, name) is not None]
        if self.is_file and given:
            raise ValueError(f"{given[0]} belongs to data sets of the hub, and {self.source!r} is a file; remove it")
        if not self.is_file and not 1 <= self.source.strip("/").count("/") + 1 <= 2:
            raise ValueError(
                f"{self.source!r} is neither a file that ends in {', '.join(self.endings)} nor a name on the hub "
                "(owner/name)"
            )
        return self


class Record(NamedTuple):
    """One record of a source: where it is, e.g. "rows.jsonl:3", and its columns."""

    place: str
    columns: Mapping[str, Any]


def records(source: Source) -> Iterator[Record]:
    """Yield the records of a source in order.

    Raises:
        DataError: It is missing or damaged; names the line or row.
    """
    if not source.is_file:
        yield from _hub(source)
        return
    yield from file_records(existing(source.source))


def file_records(path: Path) -> Iterator[Record]:
    """Yield the records of a file whose name ends in one of SUFFIXES.

    Raises:
        DataError: It cannot be read, or is damaged; names the line or row.
    """
    try:
        yield from _READERS[path.suffix](path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file.

    Raises:
        DataError: It cannot be read, or is not UTF-8; names the line.
    """
    try:
        return "".join(line for _, line, _ in _lines(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def identify(source: Source) -> str:
    """Return what tells this content from any other: a file's SHA-256, or a hub data set's commit.

    Raises:
        DataError: The file cannot be read; the hub has no such data set or cannot be reached.
    """
    if not source.is_file:
        return _commit(source.source, source.revision)
    return identify_file(existing(source.source))


def identify_file(path: Path) -> str:
    """Return a file's SHA-256.

    Raises:
        DataError: It cannot be read.
    """
    try:
        status = path.stat()
        return _digest(path.resolve(), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def existing(name: str) -> Path:
    """Return the path of a file that is there; "~" is the home folder.

    Raises:
        DataError: It is not; suggests one with the same ending.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        near = [str(other) for other in path.parent.glob(f"*{path.suffix}")] if path.parent.is_dir() else []
        raise DataError(f"no file {path} (looked from {Path.cwd()}){suggest(str(path), near)}")
    return path


@cache
def _digest(path: Path, size: int, changed: int) -> str:  # noqa: ARG001 (size and time of change tell files apart)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _lines(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield number, text and whether a line break ends it, of every line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            raw = line.removeprefix(_BOM) if number == 1 else line
            try:
                yield number, raw.decode("utf-8"), raw.endswith(b"\n")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}:{number}: not UTF-8 (byte 0x{raw[error.start]:02x} at position {error.start + 1}); "
                    "save the file as UTF-8"
                ) from error


def _jsonl(path: Path) -> Iterator[Record]:
    for number, line, whole in _lines(path):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            columns = json.loads(line)
        except (ValueError, RecursionError) as error:
            if not whole:
                raise DataError(
                    f"{place}: the file ends in the middle of a row, so it was written only in part; "
                    "fetch or write it again, or remove this line"
                ) from error
            raise DataError(f"{place}: not JSON ({error}); each line is one object") from error
        if not isinstance(columns, dict):
            raise DataError(f"{place}: expected an object with named columns, found {type(columns).__name__}")
        yield Record(place, columns)


def _csv(path: Path) -> Iterator[Record]:
    reader = csv.reader((line for _, line, _ in _lines(path)), strict=True)
    header: list[str] | None = None
    try:
        for fields in reader:
            place = f"{path}:{reader.line_num}"
            if not fields:
                continue
            if header is None:
                header = fields
                if twice := sorted({name for name in header if header.count(name) > 1}):
                    raise DataError(f"{place}: two columns are named {twice[0]!r}; rename one of them")
                continue
            if len(fields) != len(header):
                raise DataError(
                    f"{place}: found {len(fields)} fields, expected {len(header)} ({', '.join(header)}); the row is "
                    "damaged, or the file was written only in part"
                )
            yield Record(place, dict(zip(header, fields, strict=True)))
    except csv.Error as error:
        raise DataError(
            f"{path}:{reader.line_num}: not CSV ({error}); the row is damaged, or the file was written only in part"
        ) from error


def _parquet(path: Path) -> Iterator[Record]:
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        with pq.ParquetFile(path) as file:
            found = (columns for batch in file.iter_batches() for columns in batch.to_pylist())
            for number, columns in enumerate(found, start=1):
                yield Record(f"{path}, row {number}", columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: not a whole Parquet file ({str(error).splitlines()[0]}); fetch or write it again"
        ) from error


def _hub(source: Source) -> Iterator[Record]:
    import datasets

    # A folder in the hub's layout has no commit.
    commit = None if Path(source.source).is_dir() else _commit(source.source, source.revision)
    bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(source.source, source.subset, split=source.split or "train", revision=commit)
    except Exception as error:  # what is wrong with a data set's files or its script surfaces as anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"data set {source.source} cannot be loaded: {reason}; check `subset` and `split`, or download a file of it"
        ) from error
    finally:
        if bars:
            datasets.enable_progress_bars()
    for number, columns in enumerate(loaded, start=1):
        yield Record(f"{source.source}, row {number}", columns)


@cache
def _commit(name: str, revision: str | None) -> str:
    """Return the commit that a hub data set stands at; asked once per process, and never for a given commit."""
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi, errors

    try:
        commit = HfApi().dataset_info(name, revision=revision).sha
    except errors.GatedRepoError as error:
        raise DataError(
            f"data set {name} is gated: ask for access at https://huggingface.co/datasets/{name}, then run "
            "`hf auth login` on this machine"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise DataError(f"data set {name} has no revision {revision!r}; check `revision`") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise DataError(
            f"the hub has no data set {name}, or it is private; check the spelling, log in with `hf auth login`, or "
            "name a file"
        ) from error
    except Exception as error:  # any way in which a network can fail
        raise DataError(
            f"the hub cannot be asked for data set {name} ({type(error).__name__}); connect, give a commit as "
            "`revision` if it is in the local cache, or name a file"
        ) from error
    return str(commit)


_READERS: Mapping[str, Callable[[Path], Iterator[Record]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}
