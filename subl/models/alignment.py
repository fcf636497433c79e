"""Aligning the tokens of two models that read the same conversation; for attention maps and for logits.

The unit is the *chunk*: the least text that ends where both tokenizers have a boundary. Each chunk is a run of tokens
on either side, none of them empty, so that sums over chunks (of attention mass, of log-probabilities) never split a
token. Characters are those of the rendered text. Prior art for logits: ALM (arXiv 2503.20083); carrying attention maps
through chunks under causality is our own construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple

from subl.errors import DataError
from subl.models.alignment_line import Token, common_line
from subl.models.alignment_text import Content, Rendered, Role, encode, locate, template_slots

__all__ = [
    "Alignment",
    "Content",
    "Kind",
    "Rendered",
    "Role",
    "TokenChunks",
    "align",
    "encode",
    "locate",
    "template_slots",
]

Kind = Literal["slot", "prompt", "response"]
"""What a chunk holds: template only, said by system or user, or said by the assistant and nobody else."""


@dataclass(frozen=True, slots=True)
class TokenChunks:
    """One side's tokens, cut into chunks.

    Attributes:
        ends: Chunk k holds tokens ends[k - 1] … ends[k] - 1; increasing, the last is the number of tokens.
        content: For each token, whether it reads shared text; False for template and one-sided system prompt.
    """

    ends: tuple[int, ...]
    content: tuple[bool, ...]

    @property
    def of_token(self) -> list[int]:
        """Return the chunk of each token."""
        sizes = [stop - start for start, stop in pairwise((0, *self.ends))]
        return [chunk for chunk, size in enumerate(sizes) for _ in range(size)]


@dataclass(frozen=True, slots=True)
class Alignment:
    """Two renderings cut into the same chunks; `len()` is their number."""

    teacher: TokenChunks
    student: TokenChunks
    kinds: tuple[Kind, ...]

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    def identity(self) -> bool:
        """Return whether every token is its own chunk on both sides, so that nothing needs carrying."""
        tokens = tuple(range(1, len(self) + 1))
        return self.teacher.ends == tokens == self.student.ends

    @property
    def coverage(self) -> float:
        """Return chunks per student token in the response: 1 where every boundary is shared; 0 without response."""
        tokens = sum(
            stop - start
            for kind, (start, stop) in zip(self.kinds, pairwise((0, *self.student.ends)), strict=True)
            if kind == "response"
        )
        return self.kinds.count("response") / tokens if tokens else 0.0

    def truncated(self, teacher_limit: int, student_limit: int) -> Alignment:
        """Cut both sides after the last chunk that fits both limits; the tokens to keep are `ends[-1]` of each side.

        Raises:
            DataError: Nothing of the response fits, though there is one.
        """
        ends = zip(self.teacher.ends, self.student.ends, strict=True)
        kept = sum(teacher <= teacher_limit and student <= student_limit for teacher, student in ends)
        if kept == 0 or ("response" in self.kinds and "response" not in self.kinds[:kept]):
            first = self.kinds.index("response") if "response" in self.kinds else 0
            raise DataError(
                f"nothing of the response is left of {teacher_limit} teacher and {student_limit} student tokens: it "
                f"would take {self.teacher.ends[first]} and {self.student.ends[first]}; raise max_length"
            )
        sides = [
            TokenChunks(side.ends[:kept], side.content[: side.ends[kept - 1]]) for side in (self.teacher, self.student)
        ]
        return Alignment(sides[0], sides[1], self.kinds[:kept])


def align(teacher: Rendered, student: Rendered) -> Alignment:
    """Cut two renderings of one conversation into common chunks.

    The same text in the same tokens gives one chunk per token, also where tokens share characters. A slot that differs
    between the sides is one chunk; where one side has no tokens for it, the other's join the chunk before.

    Raises:
        DataError: They do not hold the same contents; shows the first place where they differ.
    """
    lines = common_line(teacher, student)
    if not lines[0] or not lines[1]:
        raise DataError("one of the renderings has no tokens; nothing can be aligned")
    if (teacher.text, teacher.input_ids, teacher.offsets) == (student.text, student.input_ids, student.offsets):
        ends = [(i, i) for i in range(1, len(lines[0]) + 1)]
    else:
        ends = [*_common_cuts(_cuts(lines[0]), _cuts(lines[1])), (len(lines[0]), len(lines[1]))]
    sides = [
        TokenChunks(tuple(end), tuple(bool(token.roles) for token in line))
        for end, line in zip(zip(*ends, strict=True), lines, strict=True)
    ]
    kinds = [
        _kind([*lines[0][start:stop], *lines[1][other_start:other_stop]])
        for (start, other_start), (stop, other_stop) in pairwise([(0, 0), *ends])
    ]
    return Alignment(sides[0], sides[1], tuple(kinds))


class _Cut(NamedTuple):
    """A place between two tokens: `tokens` lie before it, and it may stand anywhere in [low, high] of the line."""

    tokens: int
    low: int
    high: int

    def meets(self, other: _Cut) -> bool:
        return self.low <= other.high and other.low <= self.high


def _cuts(line: Sequence[Token]) -> list[_Cut]:
    """Return where a line can be cut: everything before ends by then, everything after has not begun.

    That is more than the tokens' ends: bytes of one character share its span, and no cut lies among them.
    """
    reached = list(accumulate((token.stop for token in line), max))
    ahead = list(accumulate((token.start for token in reversed(line)), min))[::-1]
    return [_Cut(i, low, high) for i, (low, high) in enumerate(zip(reached, ahead[1:], strict=False), 1) if low <= high]


def _common_cuts(teacher: Sequence[_Cut], student: Sequence[_Cut]) -> list[tuple[int, int]]:
    """Pair cuts that can stand at one place, as many as possible, in order.

    Where one side has several such places for one of the other's, the last is taken: what the other side does not have
    joins the chunk before.
    """
    pairs = []
    i = j = 0
    while i < len(teacher) and j < len(student):
        if not teacher[i].meets(student[j]):
            behind = teacher[i].high < student[j].low
            i, j = i + behind, j + (not behind)
            continue
        later_teacher = i + 1 < len(teacher) and teacher[i + 1].meets(student[j])
        later_student = j + 1 < len(student) and student[j + 1].meets(teacher[i])
        both = i + 1 < len(teacher) and j + 1 < len(student) and teacher[i + 1].meets(student[j + 1])
        if later_teacher and not both:
            i += 1
        elif later_student and not both:
            j += 1
        else:
            pairs.append((teacher[i].tokens, student[j].tokens))
            i, j = i + 1, j + 1
    return pairs


def _kind(tokens: Sequence[Token]) -> Kind:
    roles = {role for token in tokens for role in token.roles}
    if not roles:
        return "slot"
    return "response" if roles == {"assistant"} else "prompt"
