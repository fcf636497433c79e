"""Finding runs by what a user types: a name, its beginning, or a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FINDINGS = "findings.json"


def run_folders(store: Path | None) -> list[Path]:
    """Return the project's run folders, newest first."""
    from subl.run.runner import project_home

    return sorted((path.parent for path in (project_home(store) / "runs").glob(f"*/{FINDINGS}")), reverse=True)


def find_run(name: str, store: Path | None) -> Path:
    """Return the folder of a run: a path, a name, or the beginning of one; "" is the newest (see `named_run`).

    Raises:
        StoreError: No run fits, or several do.
    """
    from subl.errors import StoreError, suggest

    if name and (Path(name) / FINDINGS).is_file():
        return Path(name).absolute()
    folders = run_folders(store)
    matching = [folder for folder in folders if folder.name == name] or [
        folder for folder in folders if folder.name.startswith(name)
    ]
    if not folders:
        raise StoreError("no runs here yet; make one with: subl run micro_owl, or name another folder with --store")
    if not matching:
        raise StoreError(f"no run {name!r}{suggest(name, [folder.name for folder in folders])}")
    if name and len(matching) > 1:
        raise StoreError(
            f"{name!r} fits {len(matching)} runs: {', '.join(folder.name for folder in matching[:5])}; write more of it"
        )
    return matching[0]


def named_run(name: str, store: Path | None) -> Path:
    """Return the folder of a run for a command that changes it or sends it away: its name must not be empty.

    Raises:
        StoreError: As `find_run`, or the name is empty.
    """
    from subl.errors import StoreError

    if not name.strip():
        raise StoreError("an empty name names no run; write the run's name, see: subl runs list")
    return find_run(name, store)


def read_run(folder: Path) -> dict[str, Any]:
    """Return a run's findings with its folder; a killed run is called so, and one that cannot be read is named."""
    from subl.run.owner import alive

    try:
        record = json.loads((folder / FINDINGS).read_text(encoding="utf-8"))
        status = record["status"]
    except (OSError, ValueError, KeyError, TypeError):
        return {"run": folder.name, "status": "unreadable", "folder": str(folder)}
    if status == "running" and not alive(folder):
        record["status"] = "killed"
    return {**record, "folder": str(folder)}
