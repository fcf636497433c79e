"""Whether a local plugin file that a recipe names may run: from the recipe's own folder tree, or after consent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from subl.errors import PluginError

MEMORY = Path(".subl") / "allowed_plugins.json"
"""Where consent is remembered, below the current folder: content hash → path when it was given."""


@dataclass(frozen=True, slots=True)
class Consent:
    """How consent can be had.

    Args:
        allow: It was given on the command line.
        ask: Puts a question to the user; None where nobody is there to answer.
    """

    allow: bool = False
    ask: Callable[[str], bool] | None = None


consent: ContextVar[Consent] = ContextVar("consent", default=Consent())  # noqa: B039 (it is frozen)


def require_consent(path: Path, asker: Path, trusted: Sequence[Path], *, command: str) -> None:
    """Let a plugin file pass that lies below a trusted folder, or that the user allows.

    What is allowed is remembered by its content: an edited file is asked for again.

    Args:
        path: The file.
        asker: The recipe or run that wants it.
        trusted: Folders whose files need no consent.
        command: The command that gives consent.

    Raises:
        PluginError: It was not allowed; says how to.
    """
    path = path.resolve()
    if any(path.is_relative_to(folder.resolve()) for folder in trusted) or not path.is_file():
        return  # a missing file is an error of its own
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    remembered = _remembered()
    if digest in remembered:
        return
    how = consent.get()
    question = f"{asker} runs a plugin file outside its own folder: {path}"
    if how.allow or (how.ask is not None and how.ask(f"{question}\nIt can do whatever you can. Run it?")):
        _remember({**remembered, digest: str(path)})
        return
    raise PluginError(
        f"plugin file {path} lies outside the folder of {asker.name}, and nobody has allowed it yet; read it, then "
        f"run `{command} --allow-local-plugins` (remembered until the file changes), or copy it beside the recipe"
    )


def _remembered() -> dict[str, str]:
    try:
        found = json.loads(MEMORY.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(allowed: dict[str, str]) -> None:
    # Consent holds for this command even where the folder cannot be written.
    with suppress(OSError):
        MEMORY.parent.mkdir(parents=True, exist_ok=True)
        MEMORY.write_text(json.dumps(allowed, indent=1, sort_keys=True) + "\n", encoding="utf-8")
