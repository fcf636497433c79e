"""Which file of steering vectors a recipe names: its content decides the teacher. Light."""

from __future__ import annotations

import hashlib
from pathlib import Path

from subl.errors import ModelError, suggest


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's content.

    Raises:
        ModelError: There is no such file, or it cannot be read.
    """
    found = path.expanduser()
    try:
        with found.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        near = [str(other) for other in found.parent.glob("*.safetensors")]
        raise ModelError(
            f"inducer.vectors: no file {path} can be read (looked from {Path.cwd()}): {error.strerror}"
            f"{suggest(str(path), near)}"
        ) from error
