"""The content-addressed store: one folder per stage result, complete when its manifest, written last, is there."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subl.artifacts import ARTIFACT_FILE, Artifact, load_artifact, save_artifact
from subl.errors import StoreError
from subl.run.fingerprint import fingerprint as fingerprint_of

MANIFEST = "manifest.json"
WORK = "work"
METRICS = "metrics.jsonl"
SHARED = "shared"
"""Kind of an entry that is no stage's result: what stages share, see `Store.shared`."""

_CHECKED_BYTES = 64 * 2**20
"""Files up to this size are compared by hash when an entry is opened; larger ones by size."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One recorded number of a stage; `step` is None for a final value."""

    name: str
    value: float
    step: int | None


class Entry:
    """One store entry: `<root>/<fingerprint>/` with artifact, files, metrics, and a `work` folder while it is made."""

    def __init__(self, root: Path, fingerprint: str) -> None:
        self.root = root
        self.fingerprint = fingerprint
        self.folder = root / fingerprint
        self.work = self.folder / WORK

    @property
    def complete(self) -> bool:
        """Whether the result is there."""
        return (self.folder / MANIFEST).is_file()

    def manifest(self) -> dict[str, Any]:
        """Read the manifest.

        Raises:
            StoreError: It cannot be read.
        """
        path = self.folder / MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(manifest.get("files"), dict):
                raise ValueError("it lists no files")
        except (OSError, ValueError, AttributeError) as error:
            raise StoreError(f"{path}: cannot be read ({error})") from error
        return manifest  # type: ignore[no-any-return]

    def created(self) -> float:
        """Return when the result was made, in seconds since 1970; 0 where no manifest tells."""
        try:
            return float(self.manifest()["created"])
        except (StoreError, KeyError, TypeError, ValueError):
            return 0.0

    def artifact(self) -> Any:
        """Load the result."""
        return load_artifact(self.folder, root=self.root)

    def metrics(self) -> list[Metric]:
        """Read the recorded metrics."""
        path = self.folder / METRICS
        return list(read_metrics(path)) if path.is_file() else []

    def damage(self) -> str | None:
        """Return what is wrong with a complete entry, or None."""
        try:
            files = self.manifest()["files"]
            for name, recorded in files.items():
                path = self.folder / name
                if not path.is_file():
                    return f"{path} is missing"
                if path.stat().st_size != recorded["size"]:
                    return f"{path} has {path.stat().st_size} bytes instead of {recorded['size']}"
                if recorded["size"] <= _CHECKED_BYTES and digest(path) != recorded["sha256"]:
                    return f"{path} has other content than was written"
            if ARTIFACT_FILE in files:
                self.artifact()
        except StoreError as error:
            return str(error)
        except (OSError, KeyError, TypeError) as error:
            return f"{self.folder / MANIFEST}: malformed ({error})"
        return None

    def begin(self) -> None:
        """Clear what an interrupted attempt left, except its work folder."""
        with writing(self.folder):
            self.work.mkdir(parents=True, exist_ok=True)
            for path in self.folder.iterdir():
                if path != self.work:
                    _remove(path)

    def publish(self, artifact: Artifact, facts: Mapping[str, Any]) -> None:
        """Save the artifact and write the manifest last; then drop the work folder."""
        with writing(self.folder):
            recorded = self.work / METRICS
            if recorded.is_file():
                write_metrics(self.folder / METRICS, read_metrics(recorded))
            save_artifact(artifact, self.folder, root=self.root)
        self.seal(facts)

    def seal(self, facts: Mapping[str, Any]) -> None:
        """Write the manifest, last of all, which makes the entry complete; then drop the work folder."""
        with writing(self.folder):
            files = {
                path.relative_to(self.folder).as_posix(): {"size": path.stat().st_size, "sha256": digest(path)}
                for path in sorted(self.folder.rglob("*"))
                if path.is_file() and not path.is_relative_to(self.work)
            }
            manifest = {"fingerprint": self.fingerprint, "created": time.time(), **facts, "files": files}
            write_atomic(self.folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
            _remove(self.work)


class Store:
    """All stage results of a project, under `<home>/store`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.root = home / "store"
        self._sound: set[str] = set()

    def entry(self, fingerprint: str) -> Entry:
        """Return an entry, complete or not."""
        return Entry(self.root, fingerprint)

    def cached(self, fingerprint: str, warn: Callable[[str], None], *, since: float = 0.0) -> bool:
        """Return whether a sound result is there, made at `since` (seconds since 1970) or later.

        A damaged one is set aside, with a warning, to be made again; an older one is forgotten.
        """
        entry = self.entry(fingerprint)
        if not entry.complete:
            return False
        if since and entry.created() < since:
            self.invalidate(fingerprint)
            return False
        if fingerprint in self._sound:
            return True
        damage = entry.damage()
        if damage is None:
            self._sound.add(fingerprint)
            return True
        aside = self._aside(entry)
        warn(f"store entry {fingerprint} is damaged: {damage}; kept as {aside.name}, computing it again")
        return False

    def invalidate(self, fingerprint: str) -> None:
        """Forget a result, so that it is computed again."""
        entry = self.entry(fingerprint)
        self._sound.discard(fingerprint)
        with writing(entry.folder):
            if entry.complete:
                (entry.folder / MANIFEST).unlink()

    def shared(
        self,
        key: Mapping[str, Any],
        make: Callable[[Path], None],
        *,
        plugin: str,
        say: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> Path:
        """Return a folder that stages share; the first one makes it, while others wait.

        It is an entry like a stage's, but no plan names it, so that pruning removes it.

        Args:
            key: JSON values that decide what is in it.
            make: Writes it into an empty folder; only called where no sound one is there.
            plugin: Whose it is, for listings.
            say: Tells that another process is making it.
            warn: Tells that it was damaged, and is made again.
        """
        name = fingerprint_of({"stage": SHARED, "key": dict(key)})
        with self.locked(name, say) as entry:
            if not self.cached(name, warn):
                entry.begin()
                with writing(entry.folder):
                    make(entry.folder)
                entry.seal({"stage": SHARED, "name": SHARED, "plugin": plugin, "key": {"stage": SHARED, **key}})
        return entry.folder

    @contextmanager
    def locked(self, fingerprint: str, waiting: Callable[[str], None]) -> Iterator[Entry]:
        """Hold an entry's lock; another process that computes it is awaited. The lock dies with its process."""
        from filelock import FileLock, Timeout  # 30 ms that listings need not pay

        with writing(self.root):
            (self.root / "locks").mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.root / "locks" / f"{fingerprint}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                waiting(f"another process is computing {fingerprint}; waiting for it")
                lock.acquire()
        try:
            yield self.entry(fingerprint)
        finally:
            lock.release()

    def _aside(self, entry: Entry) -> Path:
        for number in range(1, 1000):
            aside = entry.folder.with_name(f"{entry.fingerprint}.damaged-{number}")
            if not aside.exists():
                with writing(entry.folder):
                    entry.folder.rename(aside)
                return aside
        raise StoreError(f"{entry.folder}: damaged again and again; check the disk")


def digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, text: str) -> None:
    """Write a file so that a reader sees all of it or nothing."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_metrics(path: Path) -> Iterator[Metric]:
    """Read recorded metrics; of values logged twice for one step (after a resume) the last counts."""
    last: dict[tuple[str, int | None], Metric] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue  # a kill can cut the last line; the step is logged again after the resume
        metric = Metric(record["name"], float("nan") if record["value"] is None else record["value"], record["step"])
        last[metric.name, metric.step] = metric
    yield from sorted(last.values(), key=lambda m: (m.name, -1 if m.step is None else m.step))


def metric_line(metric: Metric) -> str:
    """Return a metric as one JSONL line; what JSON cannot carry becomes null."""
    value = metric.value if math.isfinite(metric.value) else None
    return json.dumps({"name": metric.name, "value": value, "step": metric.step}) + "\n"


def write_metrics(path: Path, metrics: Iterator[Metric]) -> None:
    """Write metrics as JSONL."""
    lines = [metric_line(metric) for metric in metrics]
    path.write_text("".join(lines), encoding="utf-8")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn failures to write into messages: no space, read-only, no permission.

    Raises:
        StoreError: Names the path and the next step.
    """
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: "the disk is full; free some space (finished stages are kept) and run the same command again",
            errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
            errno.EROFS: "the file system is read-only; choose another place with --store DIR",
            errno.EACCES: "permission denied; choose another place with --store DIR",
            errno.EPERM: "permission denied; choose another place with --store DIR",
            errno.ENOTDIR: "something on this path is a file, not a folder; choose another place with --store DIR",
        }
        hint = hints.get(error.errno or 0)
        if hint is None:
            raise
        raise StoreError(f"cannot write {error.filename or path}: {hint}") from error


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
