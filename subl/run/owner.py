"""Which process writes a run folder, whether it still lives, and what becomes of the folder when it does not."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from subl.errors import StoreError
from subl.run.store import write_atomic, writing

OWNER_FILE = "process.json"
EVENTS_FILE = "events.jsonl"
_TAIL = 4096
_SAME = 1.0
"""Seconds within which two starts of a process are one."""


def this_process() -> dict[str, Any]:
    """Return what tells this process from all others, as JSON values."""
    import psutil

    started = psutil.Process().create_time()
    return {"pid": os.getpid(), "started": started, "host": platform.node(), "python": sys.version}


def alive(folder: Path) -> bool:
    """Return whether the process that wrote a run folder still runs on this machine, or may do so on another."""
    import psutil

    try:
        owner = json.loads((folder / OWNER_FILE).read_text(encoding="utf-8"))
        if owner["host"] != platform.node():
            return True
        started = psutil.Process(owner["pid"]).create_time()
    except psutil.NoSuchProcess:
        return False
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return True
    # A process that started at another time has only inherited the number.
    return bool(abs(started - owner.get("started", started)) < _SAME)


def reconcile(home: Path) -> list[str]:
    """Close the run folders whose process was killed; return their names. What cannot be read is left alone."""
    killed = []
    for folder in sorted((home / "runs").glob("*/")):
        if _closed(folder) or alive(folder):
            continue
        try:
            findings = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
            if findings["status"] != "running":
                continue
            with writing(folder):
                write_atomic(folder / "findings.json", json.dumps({**findings, "status": "killed"}, indent=1) + "\n")
                with (folder / EVENTS_FILE).open("a", encoding="utf-8") as events:
                    # A kill can cut the last line.
                    events.write("\n" + json.dumps({"event": "run", "status": "killed"}) + "\n")
        except (OSError, ValueError, KeyError, TypeError, StoreError):
            continue
        killed.append(folder.name)
    return killed


def _closed(folder: Path) -> bool:
    """Return whether the run's last event is its end; findings, which can be large, need not be read."""
    try:
        with (folder / EVENTS_FILE).open("rb") as events:
            events.seek(0, os.SEEK_END)
            events.seek(max(0, events.tell() - _TAIL))
            last = events.read().splitlines()[-1]
        return bool(json.loads(last)["event"] == "run")
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return False
