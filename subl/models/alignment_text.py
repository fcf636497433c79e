"""A conversation as one model reads it: text, tokens, and where the parts are that both models share.

A template is a row of *slots*, its fixed texts, with *contents* between them. Slots differ between models, contents do
not; so contents are what two renderings can be aligned on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from subl.errors import DataError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Content:
    """Text that somebody said: characters [start, stop) of a rendering."""

    role: Role
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """One conversation under one template and tokenizer.

    Attributes:
        text: The rendering, special tokens spelled out.
        input_ids: Its tokens.
        offsets: Each token's characters [start, stop) of `text`. Tokens may share characters (byte fallback) or have
            none (a special token that the tokenizer adds).
        contents: In order, disjoint.
    """

    text: str
    input_ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    contents: tuple[Content, ...]

    def __post_init__(self) -> None:
        if len(self.input_ids) != len(self.offsets):
            raise DataError(f"{len(self.input_ids)} tokens with {len(self.offsets)} offsets; give one offset per token")
        bounds = [0, *(edge for content in self.contents for edge in (content.start, content.stop)), len(self.text)]
        if bounds != sorted(bounds):
            raise DataError("the contents of a rendering overlap, are out of order, or lie outside its text")
        if any(not 0 <= start <= stop <= len(self.text) for start, stop in self.offsets):
            raise DataError("a token's offsets lie outside the text; pass offsets of the rendered text itself")


def template_slots(render: Callable[[Sequence[str]], str], contents: int) -> tuple[str, ...]:
    """Return a template's slots, one more than there are contents, learnt from a rendering of marks.

    Args:
        render: Renders contents, given in order.
        contents: How many it takes.

    Raises:
        ModelError: The template does not write every content once and in order.
    """
    marks = [f"CONTENT-{i}-MARK" for i in range(contents)]
    rest, slots = render(marks), []
    for mark in marks:
        slot, found, rest = rest.partition(mark)
        if not found or mark in rest:
            raise ModelError(
                f"the chat template writes content {marks.index(mark) + 1} of {contents} not at all, twice or out of "
                "order, so attention cannot be aligned through it; set another template"
            )
        slots.append(slot)
    return (*slots, rest)


def locate(text: str, slots: Sequence[str], contents: Sequence[tuple[Role, str]]) -> tuple[Content, ...]:
    """Return where `contents` stand in `text`, which `template_slots` of the same template explain in full.

    Raises:
        DataError: The template changed a content (many strip white space from its ends).
    """
    located, expected = [], slots[0]
    for (role, said), slot in zip(contents, slots[1:], strict=True):
        located.append(Content(role, len(expected), len(expected) + len(said)))
        expected += said + slot
    if text != expected:
        raise DataError(
            "the chat template changes what it renders; strip white space from the ends of prompts and answers\n"
            + first_difference(("expected", expected), ("rendered", text))
        )
    return tuple(located)


def encode(tokenizer: PreTrainedTokenizerBase, renderings: Sequence[tuple[str, tuple[Content, ...]]]) -> list[Rendered]:
    """Tokenize renderings, all at once, without the tokenizer's own special tokens: templates write them.

    Raises:
        ModelError: The tokenizer gives no character offsets.
        DataError: It has no token for a character of a content.
    """
    name, fast = tokenizer.name_or_path, getattr(tokenizer, "is_fast", False)
    if not fast:
        raise ModelError(f"the tokenizer of {name} gives no character offsets; load its fast version (tokenizer.json)")
    texts = [text for text, _ in renderings]
    encoded: Any = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True) if texts else {}
    encodings = zip(renderings, encoded.get("input_ids", ()), encoded.get("offset_mapping", ()), strict=True)
    rendered = [
        Rendered(text, tuple(ids), tuple((int(start), int(stop)) for start, stop in offsets), contents)
        for (text, contents), ids, offsets in encodings
    ]
    for one in rendered:
        _refuse_unknown(one, tokenizer.unk_token_id, name)
    return rendered


def first_difference(first: tuple[str, str], second: tuple[str, str]) -> str:
    """Show where two named texts part: the character, and both texts around it."""
    (name, text), (other_name, other) = first, second
    shared = zip(text, other, strict=False)
    at = next((i for i, (a, b) in enumerate(shared) if a != b), min(len(text), len(other)))
    width = max(len(name), len(other_name))
    shown = [f"  {label:>{width}}: {_around(some, at)}" for label, some in (first, second)]
    return "\n".join([f"they first differ at character {at}:", *shown])


def _around(text: str, at: int) -> str:
    before, after = text[max(at - 30, 0) : at], text[at : at + 30]
    return f"{'…' if at > 30 else ''}{before!r} | {after!r}{'…' if at + 30 < len(text) else ''}"


def _refuse_unknown(rendered: Rendered, unknown: int | None, name: str) -> None:
    for token, (start, stop) in zip(rendered.input_ids, rendered.offsets, strict=True):
        if token == unknown and any(start < content.stop and content.start < stop for content in rendered.contents):
            raise DataError(
                f"the tokenizer of {name} has no token for {rendered.text[start:stop]!r}, at\n"
                f"  {_around(rendered.text, start)}\nfilter such rows out, or use a tokenizer with byte fallback"
            )
