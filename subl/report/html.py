"""Report sections as one HTML file that needs nothing else: styles and figures inside, no script, no request."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

from subl.report.blocks import Block, Code, Grid, Heading, Image, Items, Paragraph, Section, Verdicts

# Nothing may be fetched and nothing may run, whatever a model wrote.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_NUMERIC = re.compile(r"[−+<]?[\d.,]+(e[−+-]?\d+)?( s| %)?|–|")
_SHORT = re.compile(r"[^a-zA-Z]{1,24}")
_SCALE = 0.75
"""Figures are drawn for print: more dots than a screen shows at the size of their letters."""
_WIDE = 700
_PLACES = re.compile(r"[^a-z0-9]+")


def render(sections: Sequence[Section], folder: Path) -> str:
    """Return the sections as one document; the first one's title is the document's.

    Args:
        sections: What to show.
        folder: The run folder, where the figures are; one that cannot be read is named in its place.
    """
    page = _Page(folder)
    bodies = [page.section(number, section) for number, section in enumerate(sections)]
    links = "".join(f'<a href="#{_place(s.title)}">{escape(s.title)}</a>' for s in sections[1:])
    style = files("subl.report").joinpath("report.css").read_text(encoding="utf-8")
    title = escape(sections[0].title) if sections else "Report"
    head = (
        '<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>"
    )
    first, rest = bodies[:1], bodies[1:]
    navigation = f"<nav>{links}</nav>" if links else ""
    body = "\n".join([*first, navigation, *rest])
    start = f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n'
    return f"{start}<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"


def escape(text: str) -> str:
    """Return text that a browser shows as it is; control characters are shown by their pictures."""
    shown = "".join(_visible(character) for character in text)
    return html.escape(shown).replace("\n", "<br>")


def _visible(character: str) -> str:
    code = ord(character)
    if character in "\n\t":
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    return "\N{REPLACEMENT CHARACTER}" if 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000 else character


class _Page:
    """Renders blocks, and numbers figures."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._figures = 0

    def section(self, number: int, section: Section) -> str:
        inside = "\n".join(part for block in section.blocks for part in self._block(block))
        if number == 0:
            return f"<header><h1>{escape(section.title)}</h1>\n{inside}</header>"
        place, title = _place(section.title), escape(section.title)
        if section.details:
            return f'<section id="{place}"><details><summary><h2>{title}</h2></summary>\n{inside}</details></section>'
        return f'<section id="{place}"><h2>{title}</h2>\n{inside}</section>'

    def _block(self, block: Block) -> Iterator[str]:
        match block:
            case Paragraph(text):
                yield f"<p>{escape(text)}</p>"
            case Heading(text):
                yield f"<h3>{escape(text)}</h3>"
            case Items(texts):
                yield f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"
            case Verdicts(items):
                yield f'<ul class="verdicts">{"".join(_verdict(*item) for item in items)}</ul>'
            case Grid(columns, rows):
                yield _table(columns, rows)
            case Image(path, caption):
                self._figures += 1
                label = f"<figcaption><b>Figure {self._figures}.</b> {escape(caption)}</figcaption>"
                yield f"<figure>{self._image(path, caption)}{label}</figure>"
            case Code(text):
                yield f"<pre><code>{html.escape(text)}</code></pre>"

    def _image(self, path: str, caption: str) -> str:
        try:
            content = (self._folder / path).read_bytes()
        except OSError:
            return f'<p class="lost">{escape(path)} cannot be read</p>'
        if path.endswith(".svg"):
            return f'<div class="scroll">{content.decode("utf-8")}</div>'
        data = base64.b64encode(content).decode("ascii")
        width = round(int.from_bytes(content[16:20], "big") * _SCALE)  # PNG: the first two fields of IHDR
        kind = ' class="wide"' if width > _WIDE else ""
        return (
            f'<div class="scroll"><img alt="{escape(caption)}" width="{width}"{kind} '
            f'src="data:image/png;base64,{data}"></div>'
        )


def _verdict(kind: str, name: str, label: str, text: str) -> str:
    tone = _PLACES.sub("-", kind)
    return f'<li class="{tone}"><b>{escape(name)}</b> <span class="mark">{escape(label)}</span> {escape(text)}</li>'


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    number = [all(_NUMERIC.fullmatch(row[i]) for row in rows) for i in range(len(columns))]
    head = "".join(_cell("th", text, number=number[i]) for i, text in enumerate(columns))
    lines = ("".join(_cell("td", text, number=number[i], first=i == 0) for i, text in enumerate(row)) for row in rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _cell(tag: str, text: str, *, number: bool, first: bool = False) -> str:
    whole = all(_SHORT.fullmatch(line) for line in text.split("\n")) or ((first or tag == "th") and len(text) < 32)
    marks = " ".join(mark for mark, set_ in (("n", number), ("w", whole)) if set_)
    kind = f' class="{marks}"' if marks else ""
    # What a model wrote may change the direction of writing: not beyond its cell.
    return f'<{tag}{kind} dir="auto">{escape(text)}</{tag}>'


def _place(title: str) -> str:
    return _PLACES.sub("-", title.casefold()).strip("-") or "part"
