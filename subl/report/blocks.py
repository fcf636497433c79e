"""What a report is made of, free of any format. Texts are plain: a renderer escapes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list of short texts."""

    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of texts; a line break inside a cell is kept."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What was found, most important first: (kind, name, label, text); the kind may decide a colour."""

    items: Sequence[tuple[str, str, str, str]]


@dataclass(frozen=True, slots=True)
class Image:
    """A figure, by its path relative to the run folder: PNG, or SVG that this package drew."""

    path: str
    caption: str


@dataclass(frozen=True, slots=True)
class Code:
    """Text to be copied as it stands."""

    text: str


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading inside a section."""

    text: str


Block: TypeAlias = Paragraph | Items | Grid | Verdicts | Image | Code | Heading


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of a report; one without blocks is left out, and one of details may be shown folded."""

    title: str
    blocks: Sequence[Block]
    details: bool = False
