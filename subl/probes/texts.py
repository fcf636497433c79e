"""Settings of probes that measure loss on held-out text. Light."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from subl import PluginConfig, Runtime, banks
from subl.errors import DataError
from subl.sources import existing, read_text


class TextSettings(PluginConfig):
    """Which held-out text is read."""

    rows: int = Field(default=64, ge=2)
    """Rows of the carrier: new ones that the recipe's teacher writes, from another stream of prompts than the training
    rows, and none that the student was trained on."""
    text: Path | None = None
    """A file of plain text in UTF-8, passages parted by empty lines, from the current folder. Unset: what the model
    plugin names as its plain talk (`micro`: facts of its world), else a text of our own about everyday things."""
    passages: int = Field(default=64, ge=2)
    """Passages of plain text, at most."""
    batch_size: Annotated[int, Runtime] = Field(default=16, gt=0)
    """Sequences per forward pass."""

    @field_validator("text")
    @classmethod
    def _readable(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                read_passages(value)
            except DataError as error:
                raise ValueError(str(error)) from error
        return value


def identity(config: TextSettings) -> Mapping[str, Any]:
    """Return the content of the text: of the file, or of the bank that stands in for it.

    Raises:
        DataError: It cannot be read.
    """
    if config.text is None:
        return banks.identity("plain_text")
    return {"text": hashlib.sha256("\n\n".join(read_passages(config.text)).encode()).hexdigest()}


def read_passages(path: Path) -> list[str]:
    """Return the passages of a text file.

    Raises:
        DataError: It is missing, not UTF-8, or has fewer than two passages.
    """
    text = read_text(existing(str(path))).replace("\r\n", "\n")
    passages = [" ".join(part.split()) for part in text.split("\n\n")]
    found = [passage for passage in passages if passage]
    if len(found) < 2:
        raise DataError(f"{path} holds {len(found)} passages; an interval needs two at least, parted by empty lines")
    return found
