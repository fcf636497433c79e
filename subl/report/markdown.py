"""Report sections as Markdown. Model text is escaped: it may hold anything, and viewers render HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from subl.report.blocks import Block, Code, Grid, Heading, Image, Items, Paragraph, Section, Verdicts


def render(sections: Sequence[Section]) -> str:
    """Return the sections as one Markdown document; the first one's title is the document's."""
    lines: list[str] = []
    for number, section in enumerate(sections):
        lines += [f"{'#' if number == 0 else '##'} {escape(section.title)}", ""]
        for block in section.blocks:
            lines += [*_block(block), ""]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_{}\[\]|#!~])", r"\\\1", text)
    return re.sub(r"\r\n|\r|\n", "<br>", text)


def _block(block: Block) -> Iterator[str]:
    match block:
        case Paragraph(text):
            yield escape(text)
        case Heading(text):
            yield f"### {escape(text)}"
        case Items(texts):
            yield from (f"- {escape(text)}" for text in texts)
        case Verdicts(items):
            yield from (f"- **{escape(f'{name}: {label}.')}** {escape(text)}" for _, name, label, text in items)
        case Grid(columns, rows):
            yield _line(columns)
            yield "|" + " --- |" * len(columns)
            yield from (_line(row) for row in rows)
        case Image(path, caption):
            yield f"![{escape(caption)}]({path.replace(' ', '%20')})"
        case Code(text):
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
            yield from (fence, text, fence)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escape(cell) for cell in cells) + " |"
