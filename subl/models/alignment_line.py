"""One line of characters on which the tokens of two renderings can be compared.

Contents, and slots that are the same on both sides, lie on it character by character. A slot that differs is one step
of the line: all its tokens read all of it. A token that reaches over the edge of a content counts as content only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from subl.errors import DataError
from subl.models.alignment_text import Content, Rendered, Role, first_difference


@dataclass(frozen=True, slots=True)
class Token:
    """A token on the common line.

    Attributes:
        start: Where its text begins.
        stop: Where it ends; equal to `start` if it has none.
        roles: Who said it; empty for a token of the template.
    """

    start: int
    stop: int
    roles: tuple[Role, ...]


@dataclass(frozen=True, slots=True)
class _Region:
    """A slot or content of one side, characters [first, last), which begins at `base` on the line."""

    first: int
    last: int
    base: int
    role: Role | None
    by_character: bool

    def place(self, start: int, stop: int) -> tuple[int, int]:
        """Put the characters of [start, stop) that lie in the region on the line."""
        if not self.by_character:
            return self.base, self.base + 1
        return self.base + max(start, self.first) - self.first, self.base + min(stop, self.last) - self.first


def common_line(teacher: Rendered, student: Rendered) -> tuple[list[Token], list[Token]]:
    """Return the tokens of both sides on one line.

    A system prompt that only one side has, or that differs, is part of a slot.

    Raises:
        DataError: The two do not hold the same contents, or their tokens stop before the contents do; shows the first
            place where they differ.
    """
    teacher_contents, student_contents = _shared_contents(teacher, student)
    regions = _regions(teacher, teacher_contents, student, student_contents)
    lines = []
    for name, rendered, own in (("teacher", teacher, regions[0]), ("student", student, regions[1])):
        tokens = [_on_line(start, stop, own) for start, stop in _in_order(rendered.offsets)]
        _refuse_cut(name, rendered, own, tokens)
        lines.append(tokens)
    return lines[0], lines[1]


def _shared_contents(teacher: Rendered, student: Rendered) -> tuple[list[Content], list[Content]]:
    sides = [[(c, one.text[c.start : c.stop]) for c in one.contents] for one in (teacher, student)]
    systems = [[text for content, text in side if content.role == "system"] for side in sides]
    if systems[0] != systems[1]:
        sides = [[(content, text) for content, text in side if content.role != "system"] for side in sides]
    roles = [[content.role for content, _ in side] for side in sides]
    if roles[0] != roles[1]:
        raise DataError(
            "the teacher's and the student's conversations have different turns: "
            f"{', '.join(roles[0]) or 'none'} against {', '.join(roles[1]) or 'none'}; render the same messages"
        )
    for turn, ((content, first), (_, second)) in enumerate(zip(*sides, strict=True), start=1):
        if first != second:
            raise DataError(
                f"the teacher's and the student's text of turn {turn} ({content.role}) are not the same; render the "
                "same messages for both, and cut at a common boundary with `Alignment.truncated`\n"
                + first_difference(("teacher", first), ("student", second))
            )
    return [content for content, _ in sides[0]], [content for content, _ in sides[1]]


def _regions(
    teacher: Rendered, teacher_contents: Sequence[Content], student: Rendered, student_contents: Sequence[Content]
) -> tuple[list[_Region], list[_Region]]:
    base = 0
    regions: tuple[list[_Region], list[_Region]] = [], []
    spans = [
        _spans(rendered, contents) for rendered, contents in ((teacher, teacher_contents), (student, student_contents))
    ]
    roles = [None, *chain.from_iterable((content.role, None) for content in teacher_contents)]
    for role, (first, last), (other_first, other_last) in zip(roles, *spans, strict=True):
        same = teacher.text[first:last] == student.text[other_first:other_last]
        regions[0].append(_Region(first, last, base, role, same))
        regions[1].append(_Region(other_first, other_last, base, role, same))
        base += last - first if same else 1
    return regions


def _spans(rendered: Rendered, contents: Sequence[Content]) -> list[tuple[int, int]]:
    edges = [0, *chain.from_iterable((content.start, content.stop) for content in contents), len(rendered.text)]
    return list(pairwise(edges))


def _in_order(offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Give special tokens without characters, which tokenizers put at (0, 0), the place where they stand."""
    placed, reached = [], 0
    for start, stop in offsets:
        placed.append((start, stop) if stop > start else (reached, reached))
        reached = max(reached, stop)
    return placed


def _on_line(start: int, stop: int, regions: Sequence[_Region]) -> Token:
    if start == stop:
        touched = [region for region in regions if region.first <= start <= region.last]
        inside = next((region for region in touched if region.first < start < region.last), None)
        # At an edge it belongs to a slot: it is a mark of the template, or of the tokenizer.
        region = inside or next(region for region in touched if region.role is None)
        return Token(*region.place(start, stop), (region.role,) if region.role else ())
    touched = [region for region in regions if region.first < stop and start < region.last]
    said = [region for region in touched if region.role is not None]
    places = [region.place(start, stop) for region in said or touched]
    return Token(places[0][0], places[-1][1], tuple(region.role for region in said if region.role is not None))


def _refuse_cut(name: str, rendered: Rendered, regions: Sequence[_Region], tokens: Sequence[Token]) -> None:
    last = next(
        (region for region in reversed(regions) if region.role is not None and region.last > region.first), None
    )
    if last is None:
        return
    text = rendered.text[last.first : last.last].rstrip()
    reached = max((token.stop for token in tokens), default=0) - last.base
    if reached < len(text):
        raise DataError(
            f"the {name}'s tokens stop before its text does, {max(reached, 0)} characters into the {last.role}'s "
            f"{text[:40]!r}; align whole texts and cut both sides with `Alignment.truncated`"
        )
