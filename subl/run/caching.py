"""The store from outside: what lies in it, why a stage is not cached, and what nobody needs any more."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from subl.errors import StoreError
from subl.recipe.differences import differences
from subl.run.store import MANIFEST, Entry, Store, writing

State: TypeAlias = Literal["complete", "partial", "damaged"]
Key: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Stored:
    """One folder of the store.

    Args:
        folder: The folder.
        fingerprint: Its name, without the ending of a damaged one.
        state: "partial" is being computed, or was interrupted; "damaged" was set aside.
        name: The stage, as plans print it; "?" where no manifest tells.
        plugin: The plugins that made it.
        key: What was hashed; empty where no manifest tells.
        size: Bytes.
        changed: Seconds since 1970.
        runs: Runs whose plan names it.
    """

    folder: Path
    fingerprint: str
    state: State
    name: str
    plugin: str
    key: Key
    size: int
    changed: float
    runs: tuple[str, ...]


ENTRY = re.compile(r"[0-9a-f]{20}(\.|$)")
"""Names of entries, and of damaged ones set aside."""


def stored(home: Path) -> list[Stored]:
    """Return everything in a store, newest first."""
    root = home / "store"
    used = _used(home)
    found = root.iterdir() if root.is_dir() else ()
    # Only what a store names itself: the folder may be somebody else's by accident.
    folders = [path for path in found if ENTRY.match(path.name) and path.is_dir() and not path.is_symlink()]
    return sorted((_stored(folder, used) for folder in folders), key=lambda one: -one.changed)


def unneeded(found: Iterable[Stored], *, older_than: float = 0.0) -> list[Stored]:
    """Return what no run's plan names, damaged entries and what stages share among it.

    A plan names everything upstream of its stages too, so nothing that remains can miss what is removed.

    Args:
        found: The store's entries.
        older_than: Keep what changed within so many seconds.
    """
    now = time.time()
    return [one for one in found if (not one.runs or one.state == "damaged") and now - one.changed >= older_than]


def remove(home: Path, one: Stored) -> bool:
    """Remove an entry; return False, and leave it, where another process is computing it.

    Raises:
        StoreError: The disk does not let it go.
    """
    from filelock import FileLock, Timeout

    with writing(one.folder):
        (home / "store" / "locks").mkdir(parents=True, exist_ok=True)
        lock = FileLock(home / "store" / "locks" / f"{one.fingerprint}.lock")
        try:
            with lock.acquire(timeout=0):
                # The manifest goes first: an entry that is half removed must not look complete.
                (one.folder / MANIFEST).unlink(missing_ok=True)
                shutil.rmtree(one.folder)
        except Timeout:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a stage is not cached.

    Args:
        stage: The stage's name.
        fingerprint: Its fingerprint.
        nearest: The stored entry that is most like it; None if there is none of its kind.
        changes: Where it differs → (there, here); an input's change is named by the stage where it began.
    """

    stage: str
    fingerprint: str
    nearest: Stored | None
    changes: Mapping[str, tuple[Any, Any]]


def why(stages: Sequence[tuple[str, str, Key]], store: Store, found: Sequence[Stored]) -> list[Cause]:
    """Return the cause for every planned stage, as (name, fingerprint, key), that has no result."""
    keys = {one.fingerprint: one.key for one in found if one.key} | {print_: key for _, print_, key in stages}
    causes = []
    for name, fingerprint, key in stages:
        if store.entry(fingerprint).complete:
            continue
        alike = [one for one in found if one.name == name and one.key and one.state == "complete"]
        ranked = [(changes(one.key, key, keys), one) for one in alike]
        best = min(ranked, key=lambda item: (len(item[0]), -item[1].changed), default=None)
        causes.append(Cause(name, fingerprint, best[1] if best else None, best[0] if best else {}))
    return causes


def changes(there: Key, here: Key, keys: Mapping[str, Key]) -> dict[str, tuple[Any, Any]]:
    """Return what differs between two keys; a differing input is followed up to where the difference began."""
    found: dict[str, tuple[Any, Any]] = {}
    stage = str(here.get("stage", "?"))
    for part in dict.fromkeys([*there, *here]):
        if part != "inputs" and there.get(part) != here.get(part):
            found |= {
                f"{stage}: {path}": values for path, values in _own(part, there.get(part), here.get(part)).items()
            }
    before, after = there.get("inputs", {}), here.get("inputs", {})
    for name in dict.fromkeys([*before, *after]):
        pair = before.get(name), after.get(name)
        if pair[0] == pair[1]:
            continue
        if pair[0] in keys and pair[1] in keys:
            found |= changes(keys[pair[0]], keys[pair[1]], keys)
        else:
            found[f"{stage}: input {name}"] = pair
    return found


def _own(part: str, there: Any, here: Any) -> dict[str, tuple[Any, Any]]:
    if part == "plugins":
        before, after = ([plugin["plugin"] for plugin in side or ()] for side in (there, here))
        if before != after:
            return {"plugin": (", ".join(before), ", ".join(after))}
    found = differences({part: there}, {part: here})
    return {
        path.replace("plugins.", "").replace("extras.", "").replace(".config.", "."): v for path, v in found.items()
    }


def _used(home: Path) -> dict[str, list[str]]:
    used: dict[str, list[str]] = {}
    for path in sorted((home / "runs").glob("*/plan.json")):
        try:
            for fingerprint in json.loads(path.read_text(encoding="utf-8")):
                used.setdefault(fingerprint, []).append(path.parent.name)
        except (OSError, ValueError, TypeError) as error:
            raise StoreError(
                f"{path}: cannot be read ({error}), so what this run needs is unknown; remove the run with: "
                f"subl runs rm {path.parent.name} --yes"
            ) from error
    return used


def _stored(folder: Path, used: Mapping[str, Sequence[str]]) -> Stored:
    fingerprint, _, aside = folder.name.partition(".")
    manifest: Mapping[str, Any] = {}
    entry = Entry(folder.parent, folder.name)
    state: State = "damaged" if aside else "complete" if entry.complete else "partial"
    if entry.complete:
        try:
            manifest = entry.manifest()
        except StoreError:
            state = "damaged"
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return Stored(
        folder=folder,
        fingerprint=fingerprint,
        state=state,
        name=str(manifest.get("name", "?")),
        plugin=str(manifest.get("plugin", "?")),
        key=manifest.get("key", {}),
        size=sum(file.st_size for file in files),
        changed=max((file.st_mtime for file in files), default=folder.stat().st_mtime),
        runs=tuple(used.get(fingerprint, ())),
    )
