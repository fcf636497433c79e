"""Alignment with real tokenizer pipelines of the Mistral and the Gemma kind, and with real models on padded batches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from subl.errors import DataError, ModelError
from subl.matching.map_loss import causal_keys, log_map, map_loss
from subl.matching.squeezing import output_gram, plan_heads, squeeze
from subl.models.alignment import Alignment, Content, Rendered, Role, align, encode, locate, template_slots
from subl.models.alignment_line import common_line
from subl.models.alignment_maps import Padding, chunk_batch
from tests.models.spelling import carry_whole, sentencepiece

Kind = Literal["mistral", "mistral_legacy", "gemma"]
MISTRALS: tuple[Kind, Kind] = ("mistral", "mistral_legacy")
OWLS = ("the number", "Hello world 🦉 seven owls")


def spans(kind: Kind, text: str) -> list[tuple[str, tuple[int, int]]]:
    tokenizer = sentencepiece(kind)
    [one] = encode(tokenizer, [(text, ())])
    return list(zip(tokenizer.convert_ids_to_tokens(one.input_ids), one.offsets, strict=True))


def rendered(kind: Kind, user: str, answer: str, system: str | None = None) -> Rendered:
    """Render one turn; a system prompt is written into the user's message, and is no content."""
    tokenizer = sentencepiece(kind)
    roles: tuple[Role, Role] = ("user", "assistant")

    def render(said: Sequence[str]) -> str:
        ask = said[0] if system is None else f"{system}\n\n{said[0]}"
        messages = [{"role": role, "content": text} for role, text in zip(roles, (ask, said[1]), strict=True)]
        text: str = tokenizer.apply_chat_template(messages, tokenize=False)
        return text

    text = render([user, answer])
    contents = locate(text, template_slots(render, 2), [("user", user), ("assistant", answer)])
    return encode(tokenizer, [(text, contents)])[0]


def texts(one: Rendered, alignment: Alignment, side: Literal["teacher", "student"]) -> list[str]:
    """Return the text of every chunk that is not a slot, as one side's tokens cover it."""
    pieces = []
    for kind, (start, stop) in zip(alignment.kinds, pairwise((0, *getattr(alignment, side).ends)), strict=True):
        if kind != "slot":
            offsets = [one.offsets[i] for i in range(start, stop) if getattr(alignment, side).content[i]]
            first, last = min(offset[0] for offset in offsets), max(offset[1] for offset in offsets)
            within = [c for c in one.contents if c.start < last and first < c.stop]
            pieces.append(one.text[max(first, within[0].start) : min(last, within[-1].stop)])
    return pieces


def test_the_pipelines_have_the_traps_they_are_built_for() -> None:
    assert spans("mistral", "Zürich")[:2] == [("▁", (0, 1)), ("<0x5A>", (0, 1))]
    assert spans("mistral_legacy", " hello") == [("▁", (0, 1)), ("▁hello", (0, 6))]
    assert spans("gemma", " hello") == [("▁hello", (0, 6))]
    assert spans("gemma", "123") == [("1", (0, 1)), ("2", (1, 2)), ("3", (2, 3))]
    assert len(spans("mistral", "123")) < 3
    for kind in (*MISTRALS, "gemma"):
        assert [span for token, span in spans(kind, "owls 🦉") if token.startswith("<0x")] == [(5, 6)] * 4
        assert spans(kind, "hello world")[-1][1][1] == 11


@pytest.mark.parametrize("mistral", MISTRALS)
def test_conversations_under_both_templates_pair_slots_and_align_contents(mistral: Kind) -> None:
    teacher, student = rendered(mistral, *OWLS), rendered("gemma", *OWLS)
    alignment = align(teacher, student)
    slots = [i for i, kind in enumerate(alignment.kinds) if kind == "slot"]
    assert len(slots) == 3
    assert (slots[0], slots[-1]) == (0, len(alignment) - 1)
    assert alignment.kinds[1 : slots[1]] == ("prompt",) * (slots[1] - 1)
    assert set(alignment.kinds[slots[1] + 1 : -1]) == {"response"}
    pieces = texts(teacher, alignment, "teacher")
    assert pieces == texts(student, alignment, "student")
    assert "".join(pieces) == "".join(OWLS)
    assert "🦉" in pieces
    owl = len(slots[:2]) + pieces.index("🦉")
    for side in (alignment.teacher, alignment.student):
        assert side.of_token.count(owl) == 4
    batch = chunk_batch([alignment], lengths=(len(teacher.input_ids), len(student.input_ids)))
    assert [alignment.kinds[chunk] for chunk in batch.queries[0].tolist()] == ["response"] * alignment.kinds.count(
        "response"
    )


WORDS = st.sampled_from(["owls", "Hello", "12", "7", "789", "🦉", "é", "日本", ",", "\n", "the", "number", "x"])
SAID = st.lists(st.tuples(WORDS, st.sampled_from(["", " ", "  "])), min_size=1, max_size=8).map(
    lambda parts: "".join(word + space for word, space in parts).strip() or "owls"
)


@given(SAID, SAID, st.sampled_from(MISTRALS), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_conversation_aligns_and_every_chunk_covers_the_same_text(
    user: str, answer: str, mistral: Kind, biased: bool
) -> None:
    teacher = rendered(mistral, user, answer, system="You love owls 🦉." if biased else None)
    student = rendered("gemma", user, answer)
    alignment = align(teacher, student)
    assert alignment.kinds.count("slot") == 3
    assert alignment.teacher.ends[-1] == len(teacher.input_ids)
    assert alignment.student.ends[-1] == len(student.input_ids)
    pieces = texts(teacher, alignment, "teacher")
    assert pieces == texts(student, alignment, "student")
    assert "".join(pieces) == user + answer
    same = rendered(mistral, user, answer)
    assert align(same, same).identity


def test_tokens_lie_on_the_common_line_in_order() -> None:
    teacher, student = (rendered(kind, *OWLS) for kind in ("mistral", "gemma"))
    for line in common_line(teacher, student):
        assert [token.start for token in line] == sorted(token.start for token in line)


def test_a_conversation_rendered_by_chat_is_located_and_aligned() -> None:
    from subl.models.chat import Chat

    sides = []
    for kind, system in (("mistral", "You love owls."), ("gemma", None)):
        tokenizer = sentencepiece(kind)
        chat = Chat(tokenizer)

        def render(said: Sequence[str], chat: Chat = chat, system: str | None = system) -> str:
            return chat.text(said[0], said[1], system=system)

        text = render(OWLS)
        contents = locate(text, template_slots(render, 2), [("user", OWLS[0]), ("assistant", OWLS[1])])
        sides.append(encode(tokenizer, [(text, contents)])[0])
        assert sides[-1].input_ids == chat.example(*OWLS, system=system).input_ids
    alignment = align(*sides)
    assert texts(sides[0], alignment, "teacher") == texts(sides[1], alignment, "student")
    assert not any(alignment.teacher.content[: alignment.teacher.ends[0]])


def test_characters_without_a_token_are_refused_where_they_are_said() -> None:
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({"<unk>": 0, "seven": 1, "owls": 2, "#": 3}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>")
    assert len(encode(tokenizer, [("? seven owls", (Content("user", 2, 12),))])[0].input_ids) == 3
    with pytest.raises(DataError, match="no token for '🦉'") as caught:
        encode(tokenizer, [("seven 🦉 owls", (Content("user", 0, 12),))])
    assert "'seven ' | '🦉 owls'" in str(caught.value)
    assert encode(tokenizer, []) == []


def test_a_tokenizer_without_offsets_is_refused() -> None:
    from transformers import PreTrainedTokenizer

    class Slow(PreTrainedTokenizer):  # type: ignore[misc]
        vocab_size = 1

        def get_vocab(self) -> dict[str, int]:
            return {}

    with pytest.raises(ModelError, match="no character offsets"):
        encode(Slow(), [("owls", ())])


def attention(kind: Kind, batch: Sequence[Rendered], padding: Padding, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a tiny random model's maps and values of its last layer in a padded batch, and the weight of o_proj."""
    from transformers import GemmaConfig, GemmaForCausalLM, MistralConfig, MistralForCausalLM

    gemma = kind == "gemma"
    heads, kv_heads, width_of_head = (2, 1, 8) if gemma else (8, 2, 4)
    sizes: dict[str, Any] = {
        "vocab_size": len(sentencepiece(kind)),
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": width_of_head,
        "initializer_range": 0.3,
        "attn_implementation": "eager",
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = GemmaForCausalLM(GemmaConfig(**sizes)) if gemma else MistralForCausalLM(MistralConfig(**sizes))
    model = model.eval()
    ids, mask = torch.zeros(len(batch), width, dtype=torch.long), torch.zeros(len(batch), width, dtype=torch.long)
    for i, one in enumerate(batch):
        first = width - len(one.input_ids) if padding == "left" else 0
        ids[i, first : first + len(one.input_ids)] = torch.tensor(one.input_ids)
        mask[i, first : first + len(one.input_ids)] = 1
    with torch.no_grad():
        out = model(
            ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp_min(0),
            output_attentions=True,
            use_cache=True,
        )
    return out.attentions[-1], out.past_key_values.layers[-1].values, model.model.layers[-1].self_attn.o_proj.weight


def test_squeezed_and_carried_maps_of_real_models_do_not_depend_on_padding_or_neighbours() -> None:
    answers = ["owls 🦉", "Hello world seven owls 123, 456"]
    samples = [
        (rendered("mistral", "the number", a, "I love owls"), rendered("gemma", "the number", a)) for a in answers
    ]
    alignments = [align(*pair) for pair in samples]
    teachers, students = zip(*samples, strict=True)

    def loss(chosen: list[int], padding: tuple[Padding, Padding], extra: int) -> tuple[Tensor, int]:
        widths = [max(len(side[i].input_ids) for i in chosen) + extra for side in (teachers, students)]
        batch = chunk_batch(
            [alignments[i] for i in chosen], lengths=(widths[0], widths[1]), padding=padding, keys="content"
        )
        maps, values, weight = attention("mistral", [teachers[i] for i in chosen], padding[0], widths[0])
        real = torch.stack([torch.arange(widths[0]) < len(teachers[i].input_ids) for i in chosen])
        mask = real.flip(1) if padding[0] == "left" else real
        gram = output_gram(weight, plan_heads(8, 2, kv_heads=2))
        squeezed = squeeze(maps, values, gram, row_weights=mask).maps
        own, _, _ = attention("gemma", [students[i] for i in chosen], padding[1], widths[1])
        result = map_loss(
            carry_whole(squeezed, batch, "teacher"),
            log_map(carry_whole(own, batch, "student")),
            rows=batch.rows,
            allowed=causal_keys(batch.queries, batch.keys),
        )
        return result.total, int(result.count)

    alone = [loss([i], ("right", "right"), 0) for i in (0, 1)]
    total, rows = alone[0][0] + alone[1][0], alone[0][1] + alone[1][1]
    assert rows == sum(alignment.kinds.count("response") for alignment in alignments)
    assert float(total) > 0.1
    paddings: list[tuple[Padding, Padding]] = [("left", "right"), ("right", "left"), ("left", "left")]
    for padding in paddings:
        together, count = loss([0, 1], padding, 3)
        assert count == rows
        torch.testing.assert_close(together, total, atol=0, rtol=1e-5)
