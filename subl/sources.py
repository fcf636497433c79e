"""Reading data files and hub data sets record by record, each with the place that messages name. Light."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import Field, model_validator

from subl.errors import DataError, suggest
from subl.registry.config import StrictModel

SUFFIXES = (".jsonl", ".ndjson", ".csv", ".parquet")
"""Endings of the files that `records` can read."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_ON_THE_HUB = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*")
_BOM = b"\xef\xbb\xbf"


class Source(StrictModel):
    """A file, a folder laid out like a data set of the hub, or a data set of the hub."""

    endings: ClassVar[tuple[str, ...]] = SUFFIXES
    """What names of files end in; any other source is a folder that is there, or a name on the hub."""

    source: str = Field(min_length=1)
    """A file or folder, from the current folder; else a name on the hub. A folder holds what a data set of the hub
    does: files in `data/`, and a README.md that lists configurations if there are several. It needs no network."""
    subset: str | None = None
    """Configuration of a hub data set or folder."""
    split: str | None = None
    """Split of a hub data set or folder; "train" unless set."""
    revision: str | None = None
    """Branch, tag or commit of a hub data set; its default branch unless set."""

    @property
    def is_file(self) -> bool:
        """Whether the source is a file."""
        return self.source.endswith(self.endings)

    @property
    def folder(self) -> Path | None:
        """The folder that the source names; None for a file, and for a name on the hub."""
        path = Path(self.source).expanduser()
        return path if not self.is_file and path.is_dir() else None

    @property
    def is_local(self) -> bool:
        """Whether it can be read without the hub."""
        return self.is_file or self.folder is not None

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        kind, only = ("file", ("subset", "split", "revision")) if self.is_file else ("folder", ("revision",))
        given = [name for name in only if getattr(self, name) is not None]
        if self.is_local and given:
            raise ValueError(f"{given[0]} belongs to data sets of the hub, and {self.source!r} is a {kind}; remove it")
        if not self.is_local and not _ON_THE_HUB.fullmatch(self.source):
            raise ValueError(
                f"{self.source!r} is neither a file that ends in {', '.join(self.endings)} nor a folder that is there "
                f"(looked from {Path.cwd()}) nor a name on the hub (owner/name)"
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
    if source.is_file:
        yield from file_records(existing(source.source))
    elif source.folder is not None:
        yield from _folder(source, source.folder)
    else:
        yield from _hub(source)


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
    """Return what tells this content from any other: a file's or folder's SHA-256, or a hub data set's commit.

    Raises:
        DataError: A file cannot be read; the hub has no such data set or cannot be reached.
    """
    if source.folder is not None:
        return _identify_folder(source.folder)
    return identify_file(existing(source.source)) if source.is_file else _commit(source.source, source.revision)


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


def _identify_folder(folder: Path) -> str:
    """Return a hash of the names and contents of all files but hidden ones, which hold no data."""
    names = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    listed = [f"{name.as_posix()}\0{identify_file(folder / name)}\n" for name in names if not _hidden(name)]
    if not listed:
        raise DataError(f"{folder} holds no files; expected a data set in the hub's layout, such as data/train.jsonl")
    return hashlib.sha256("".join(listed).encode()).hexdigest()


def _hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)


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


def _folder(source: Source, folder: Path) -> Iterator[Record]:
    """Yield the records of a folder in the hub's layout; `datasets` says which files a configuration and split have."""
    # What the library notes in its cache is of no use later, and a home folder may not be writable.
    with TemporaryDirectory(prefix="subl-") as cache:
        with _quiet_datasets(source, "check its files, its README.md, `subset` and `split`") as datasets:
            builder = datasets.load_dataset_builder(str(folder), source.subset, cache_dir=cache)
            splits = builder.config.data_files or {}
        split = source.split or "train"
        if split not in splits:
            raise DataError(f"data set {folder} has no split {split!r}{suggest(split, map(str, splits))}; set `split`")
        files = [Path(file) for file in splits[split]]
        if all(file.suffix in _READERS for file in files):  # which know lines, as the library does not
            for file in files:
                yield from file_records(file)
        else:
            yield from _loaded(source, str(folder), streaming=True, cache_dir=cache)


def _hub(source: Source) -> Iterator[Record]:
    yield from _loaded(source, source.source, revision=_commit(source.source, source.revision))


def _loaded(source: Source, name: str, **how: Any) -> Iterator[Record]:
    with _quiet_datasets(source, "check `subset` and `split`, or download a file of it") as datasets:
        loaded = datasets.load_dataset(name, source.subset, split=source.split or "train", **how)
        for number, columns in enumerate(loaded, start=1):
            yield Record(f"{source.source}, row {number}", columns)


@contextmanager
def _quiet_datasets(source: Source, advice: str) -> Iterator[Any]:
    """Give the library `datasets` without its progress bars and logs; whatever it raises tells of the data set."""
    import datasets

    bars, level = not datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield datasets
    except Exception as error:  # what is wrong with a data set's files or its script surfaces as anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"data set {source.source} cannot be loaded: {reason}; {advice}") from error
    finally:
        datasets.logging.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()


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
