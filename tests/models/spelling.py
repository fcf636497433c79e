"""Renderings made by hand or at random, and the two sentencepiece-like tokenizers that text models are made with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Literal

from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from subl.models.alignment import Content, Rendered
from subl.models.alignment_maps import ChunkBatch, RowMode, Side, asking_rows, carry
from tests.tiny import GEMMA_TEMPLATE, MISTRAL_TEMPLATE

Spans = list[tuple[int, int]]
CORPUS = ["hello world the number seven owls numbers are 12 123 456 and 789 I love owls the most"] * 20
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def spelled(text: str, spans: Sequence[tuple[int, int]], contents: Sequence[Content] | None = None) -> Rendered:
    """Return a rendering with these token spans; without contents, an assistant said all of it."""
    whole = (Content("assistant", 0, len(text)),)
    return Rendered(text, tuple(range(len(spans))), tuple(spans), whole if contents is None else tuple(contents))


def joined(*parts: str, roles: Sequence[Literal["system", "user", "assistant"]]) -> Rendered:
    """Return slots and contents in turn, one token per character."""
    contents, at = [], 0
    for i, part in enumerate(parts):
        if i % 2:
            contents.append(Content(roles[i // 2], at, at + len(part)))
        at += len(part)
    return spelled("".join(parts), [(i, i + 1) for i in range(at)], contents)


@st.composite
def spellings(draw: st.DrawFn, length: int) -> Spans:
    """Cut `length` characters into tokens; some single characters are spelled by several tokens of the same span."""
    edges = [0, *sorted(draw(st.sets(st.integers(1, length - 1)))), length] if length > 1 else [0, 1]
    spans: Spans = []
    for start, stop in pairwise(edges):
        again = draw(st.sampled_from([1, 1, 1, 2, 4])) if stop - start == 1 else 1
        spans += [(start, stop)] * again
    return spans


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Rendered, Rendered]:
    """Draw one text in two spellings."""
    text = "abcdefghijklmnop"[: draw(st.integers(1, 16))]
    return spelled(text, draw(spellings(len(text)))), spelled(text, draw(spellings(len(text))))


@st.composite
def ragged(draw: st.DrawFn, text: str = "abcdefgh") -> Rendered:
    """Draw tokens that leave gaps, overlap, or have no characters."""
    edge = st.integers(0, len(text))
    spans = sorted((min(a, b), max(a, b)) for a, b in draw(st.lists(st.tuples(edge, edge), max_size=8)))
    if draw(st.booleans()):
        spans.sort(key=lambda span: (span[0], -span[1]))
    return spelled(text, [*spans, (len(text) - 1, len(text))])


@cache
def sentencepiece(kind: Literal["mistral", "mistral_legacy", "gemma"]) -> Any:
    """Return a BPE tokenizer with byte fallback, like Mistral's (▁ before every text) or Gemma's (digits split)."""
    from transformers import PreTrainedTokenizerFast

    gemma = kind == "gemma"
    first, last = ("<bos>", "<eos>") if gemma else ("<s>", "</s>")
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    if gemma:
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\d"), "isolated")
    elif kind == "mistral_legacy":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    marks = ["<start_of_turn>", "<end_of_turn>"] if gemma else []
    specials = ["<pad>", "<unk>", first, last, *marks, *BYTES]
    trainer = trainers.BpeTrainer(vocab_size=len(specials) + 90, special_tokens=specials, show_progress=False)
    words = [word for line in CORPUS for word in line.split()]
    tokenizer.train_from_iterator([f" {word}" for word in words] if gemma else words, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=first, eos_token=last, unk_token="<unk>", pad_token="<pad>"
    )
    fast.chat_template = GEMMA_TEMPLATE if gemma else MISTRAL_TEMPLATE
    return fast


def carry_whole(maps: Tensor, batch: ChunkBatch, side: Side, *, rows: RowMode = "last") -> Tensor:
    """Carry maps with a row for every token."""
    return carry(asking_rows(maps, batch, side), batch, side, rows=rows)
