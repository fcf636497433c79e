"""Carrying maps and log-probabilities through alignments, against dense matrices and against definitions."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from subl.matching.map_loss import causal_keys, log_map, map_loss, row_divergence
from subl.matching.squeezing import mix, output_gram, plan_heads, squeeze
from subl.models.alignment import Alignment, Content, Rendered, TokenChunks, align
from subl.models.alignment_direct import direct_batch, project
from subl.models.alignment_maps import Padding, RowMode, Side, chunk_batch, chunk_sums
from tests.matching.squeezing_reference import causal_maps, normal
from tests.models.spelling import carry_whole, joined, pairs, ragged, spelled

SIDES: tuple[Side, Side] = ("teacher", "student")
ROWS: tuple[RowMode, RowMode] = ("last", "mean")
EXAMPLE = torch.tensor([[1, 0, 0], [0.4, 0.6, 0], [0.2, 0.3, 0.5]], dtype=torch.float64)


def three_against_three() -> tuple[Rendered, Rendered]:
    return spelled("abcdef", [(0, 2), (2, 4), (4, 6)]), spelled("abcdef", [(0, 3), (3, 4), (4, 6)])


def lengths(*renderings: Rendered) -> tuple[int, int]:
    return len(renderings[0].input_ids), len(renderings[1].input_ids)


def dense(side: TokenChunks, rows: RowMode) -> tuple[Tensor, Tensor]:
    """Return R (chunks × tokens) and C (tokens × chunks) of one side as matrices."""
    columns = torch.nn.functional.one_hot(torch.tensor(side.of_token)).double()
    if rows == "mean":
        return columns.T / columns.T.sum(1, keepdim=True), columns
    last = torch.nn.functional.one_hot(torch.tensor(side.ends) - 1).double()
    return last, columns


@pytest.mark.parametrize("rows", ROWS)
def test_a_map_is_carried_to_chunks_as_worked_out_by_hand(rows: RowMode) -> None:
    pair = three_against_three()
    batch = chunk_batch([align(*pair)], lengths=lengths(*pair))
    carried = carry_whole(EXAMPLE[None, None], batch, "teacher", rows=rows)
    torch.testing.assert_close(carried[0, 0], torch.tensor([[1, 0], [0.5, 0.5]], dtype=torch.float64))


def test_a_map_is_carried_to_the_student_s_tokens_without_a_look_ahead() -> None:
    teacher, student = three_against_three()
    projection = project(teacher, student, align(teacher, student))
    expected = torch.tensor([[1, 0, 0], [0.7, 0.3, 0], [0.35, 0.15, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(projection.carry(EXAMPLE), expected)
    assert projection.exact.tolist() == [False, True, True]
    naive_rows = torch.tensor([[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    naive = naive_rows @ EXAMPLE @ projection.columns
    assert naive[0].tolist() == pytest.approx([0.85, 0.15, 0], abs=1e-15)


@given(pairs() | st.tuples(ragged(), ragged()), st.integers(0, 1000))
@settings(max_examples=400, deadline=None)
def test_carried_rows_stay_causal_distributions_for_any_two_tokenizations(
    pair: tuple[Rendered, Rendered], seed: int
) -> None:
    alignment = align(*pair)
    batch = chunk_batch([alignment], lengths=lengths(*pair), queries="all")
    for side, own, rendered in zip(SIDES, (alignment.teacher, alignment.student), pair, strict=True):
        tokens = len(rendered.input_ids)
        maps = causal_maps(1, 2, tokens, tokens, seed=seed)
        for rows in ROWS:
            carried = carry_whole(maps, batch, side, rows=rows)
            assert carried.shape == (1, 2, len(alignment), len(alignment))
            assert float((carried.sum(-1) - 1).abs().max()) < 1e-12
            assert float(carried.triu(1).abs().max()) == 0
            assert float(carried.min()) >= 0
            left, right = dense(own, rows)
            torch.testing.assert_close(carried[0], left @ maps[0] @ right, atol=1e-15, rtol=0)
            if alignment.identity:
                assert torch.equal(carried, maps)


@given(pairs() | st.tuples(ragged(), ragged()), st.integers(0, 1000))
@settings(max_examples=400, deadline=None)
def test_directly_carried_rows_stay_causal_distributions_for_any_two_tokenizations(
    pair: tuple[Rendered, Rendered], seed: int
) -> None:
    alignment = align(*pair)
    projection = project(*pair, alignment)
    tokens, others = lengths(*pair)
    maps = causal_maps(tokens, tokens, seed=seed)
    carried = projection.carry(maps)
    assert carried.shape == (others, others)
    supported = projection.rows.sum(1) > 0
    assert bool(supported[projection.exact].all())
    assert bool(projection.exact[-1])
    assert float((carried.sum(-1) - supported.double()).abs().max()) < 1e-12
    assert float(carried.triu(1).abs().max()) == 0
    assert float(carried.min()) >= 0
    if alignment.identity:
        assert torch.equal(carried, maps)


def test_overlap_alone_would_break_causality_in_most_pairs_with_bytes() -> None:
    teacher = spelled("ab", [(0, 1), (0, 1), (1, 2)])
    student = spelled("ab", [(0, 1), (0, 1), (0, 1), (1, 2)])
    projection = project(teacher, student, align(teacher, student))
    assert projection.exact.tolist() == [False, False, True, True]
    by_ends = torch.tensor([[0.5, 0.5, 0]] * 3 + [[0, 0, 1]], dtype=torch.float64)
    leaking = by_ends @ causal_maps(3, 3, seed=1) @ projection.columns
    assert float(leaking.triu(1).max()) > 0.1


def test_text_that_the_student_does_not_have_falls_to_its_token_before() -> None:
    teacher = joined("", "hi", "##", "yo", "", roles=["user", "assistant"])
    student = joined("", "hi", "", "yo", "", roles=["user", "assistant"])
    columns = project(teacher, student, align(teacher, student)).columns
    assert columns.argmax(1).tolist() == [0, 1, 1, 1, 2, 3]
    assert columns.max(1).values.tolist() == [1] * 6


@given(pairs(), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_carrying_columns_never_grows_a_divergence(pair: tuple[Rendered, Rendered], seed: int) -> None:
    alignment = align(*pair)
    batch = chunk_batch([alignment], lengths=lengths(*pair))
    tokens = len(pair[0].input_ids)
    one, other = causal_maps(1, 1, tokens, tokens, seed=seed), causal_maps(1, 1, tokens, tokens, seed=seed + 1)
    last = torch.tensor(alignment.teacher.ends)[None] - 1
    before = row_divergence(
        one[:, :, last[0]],
        other[:, :, last[0]].log(),
        allowed=causal_keys(last, torch.ones(1, tokens, dtype=torch.bool)),
    )
    after = row_divergence(
        carry_whole(one, batch, "teacher"),
        log_map(carry_whole(other, batch, "teacher")),
        allowed=causal_keys(batch.queries, batch.keys),
    )
    assert bool((after <= before + 1e-10).all())


def test_squeezing_and_carrying_commute_given_the_weights() -> None:
    pair = three_against_three()
    batch = chunk_batch([align(*pair)], lengths=lengths(*pair))
    maps, values = causal_maps(1, 4, 3, 3, seed=2), normal(1, 2, 3, 4, seed=3)
    plan = plan_heads(4, 2, kv_heads=2)
    squeezed = squeeze(maps, values, output_gram(normal(5, 16, seed=4), plan))
    first = carry_whole(squeezed.maps, batch, "teacher")
    torch.testing.assert_close(
        first, mix(carry_whole(maps, batch, "teacher"), squeezed.weights, plan), atol=1e-12, rtol=0
    )


def conversation() -> tuple[Rendered, Rendered]:
    teacher = joined("<s>", "owls", "#", "hi", "##", "yoyo", "</s>", roles=["system", "user", "assistant"])
    student = joined("<b>", "hi", "#", "yoyo", "\n", roles=["user", "assistant"])
    return teacher, student


def test_only_response_chunks_ask_and_only_wanted_keys_count() -> None:
    teacher, student = conversation()
    alignment = align(teacher, student)
    kinds = ["slot", "prompt", "prompt", "slot", *["response"] * 4, "slot"]
    assert list(alignment.kinds) == kinds
    response = chunk_batch([alignment], lengths=lengths(teacher, student))
    assert response.queries.tolist() == [[4, 5, 6, 7]]
    assert response.keys.all()
    content = chunk_batch([alignment], lengths=lengths(teacher, student), keys="content")
    assert content.keys[0].tolist() == [kind != "slot" for kind in kinds]
    answers = chunk_batch([alignment], lengths=lengths(teacher, student), keys="response", queries="all")
    assert answers.keys[0].tolist() == [kind == "response" for kind in kinds]
    assert answers.queries.tolist() == [list(range(9))]


@pytest.mark.parametrize("rows", ROWS)
def test_content_keys_hold_no_mass_of_the_template_even_in_a_mixed_chunk(rows: RowMode) -> None:
    """Without slots on the student's side, the teacher's sink shares a chunk with the first words."""
    teacher = joined("<s>", "hi", "#", "yo", "", roles=["user", "assistant"])
    student = joined("", "hi", "", "yo", "", roles=["user", "assistant"])
    alignment = align(teacher, student)
    maps = causal_maps(1, 1, 8, 8, seed=5)
    mixed = carry_whole(maps, chunk_batch([alignment], lengths=(8, 4)), "teacher", rows=rows)
    pure = carry_whole(maps, chunk_batch([alignment], lengths=(8, 4), keys="content"), "teacher", rows=rows)
    assert float((mixed.sum(-1) - 1).abs().max()) < 1e-12
    expected = torch.stack([maps[0, 0, [6, 7], i] for i in (3, 4, 6, 7)], dim=-1)
    torch.testing.assert_close(pure[0, 0], expected)


def test_a_chunk_that_only_one_side_reads_as_content_is_no_content_key() -> None:
    """The teacher's tokenizer drops the space, so that its chunk for it holds a mark of the template alone."""
    teacher = spelled("<s> hi", [(0, 3), (4, 5), (5, 6)], [Content("user", 3, 6)])
    student = spelled(" hi", [(0, 1), (1, 2), (2, 3)], [Content("user", 0, 3)])
    alignment = align(teacher, student)
    assert alignment.teacher.ends == alignment.student.ends == (1, 2, 3)
    batch = chunk_batch([alignment], lengths=(3, 3), keys="content", queries="all")
    assert batch.keys.tolist() == [[False, True, True]]


def padded(maps: Tensor, length: int, side: Padding, fill: float) -> Tensor:
    before = length - maps.shape[-1] if side == "left" else 0
    wide = maps.new_full((*maps.shape[:2], length, length), fill)
    wide[..., before : before + maps.shape[-1], before : before + maps.shape[-1]] = maps
    return wide


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("padding", [("left", "right"), ("right", "left"), ("left", "left")])
def test_padding_and_neighbours_leave_carried_maps_and_losses_as_they_are(
    padding: tuple[Padding, Padding], rows: RowMode
) -> None:
    samples = [conversation(), three_against_three(), (spelled("ab", [(0, 1), (1, 2)]), spelled("ab", [(0, 2)]))]
    alignments = [align(*pair) for pair in samples]
    widths = (22, 15)
    batch = chunk_batch(alignments, lengths=widths, padding=padding)
    singles, maps = [], []
    for i, (pair, alignment) in enumerate(zip(samples, alignments, strict=True)):
        own = [causal_maps(1, 2, n, n, seed=20 + 2 * i + j) for j, n in enumerate(lengths(*pair))]
        single = chunk_batch([alignment], lengths=lengths(*pair))
        singles.append([carry_whole(m, single, side, rows=rows) for m, side in zip(own, SIDES, strict=True)])
        maps.append([padded(m, n, pad, 0.3) for m, n, pad in zip(own, widths, padding, strict=True)])
        loss = map_loss(
            singles[-1][0],
            log_map(singles[-1][1]),
            rows=single.rows,
            allowed=causal_keys(single.queries, single.keys),
        )
        singles[-1].append(loss.total)
    teacher, student = (
        carry_whole(torch.cat(some), batch, side, rows=rows)
        for some, side in zip(zip(*maps, strict=True), SIDES, strict=True)
    )
    for i, (one_teacher, one_student, _) in enumerate(singles):
        real, chunks = one_teacher.shape[2:]
        torch.testing.assert_close(teacher[i, :, :real, :chunks], one_teacher[0], atol=2e-16, rtol=0)
        torch.testing.assert_close(student[i, :, :real, :chunks], one_student[0], atol=2e-16, rtol=0)
    assert batch.rows.sum(1).tolist() == [4, 2, 1]
    loss = map_loss(teacher, log_map(student), rows=batch.rows, allowed=causal_keys(batch.queries, batch.keys))
    torch.testing.assert_close(loss.total, torch.stack([single[2] for single in singles]).sum(), atol=1e-12, rtol=0)


def test_equal_tokenizations_select_rows_so_that_logarithms_pass_too() -> None:
    spans = [(0, 1), (1, 2), (2, 4)]
    short, long = spelled("abcd", spans), spelled("abcdef", [*spans, (4, 6)])
    batch = chunk_batch([align(short, short), align(long, long)], lengths=(5, 5))
    assert batch.identity
    maps = causal_maps(2, 1, 5, 5, seed=6)
    assert torch.equal(carry_whole(maps, batch, "student")[1], maps[1, :, :4, :4])
    assert torch.equal(carry_whole(maps.log(), batch, "student")[0, :, :3], maps.log()[0, :, :3, :4])
    assert not chunk_batch([align(short, short)], lengths=(5, 3), padding=("left", "right")).identity


def test_carried_maps_are_differentiable() -> None:
    pair = three_against_three()
    batch = chunk_batch([align(*pair)], lengths=lengths(*pair))
    scores = normal(1, 2, 3, 3, seed=7).requires_grad_()

    def loss(scores: Tensor) -> Tensor:
        return carry_whole(scores.softmax(-1), batch, "student").square().sum()

    assert torch.autograd.gradcheck(loss, [scores])


@given(pairs(), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_chunk_log_probabilities_sum_to_those_of_the_sequence(pair: tuple[Rendered, Rendered], seed: int) -> None:
    alignment, width = align(*pair), 70
    batch = chunk_batch([alignment], lengths=(width, width), padding=("left", "right"))
    for side, own in zip(SIDES, (alignment.teacher, alignment.student), strict=True):
        tokens = own.ends[-1]
        log_probs = -normal(1, tokens, seed=seed).abs()
        filled = torch.full((1, width), 7.0, dtype=torch.float64)
        filled[:, width - tokens if side == "teacher" else 0 :][:, :tokens] = log_probs
        sums = chunk_sums(filled, batch, side)
        assert float(sums.sum()) == pytest.approx(float(log_probs.sum()), abs=1e-12)
        parts = [log_probs[0, start:stop].sum() for start, stop in pairwise((0, *own.ends))]
        torch.testing.assert_close(sums[0], torch.stack(parts))


@pytest.mark.parametrize("padding", [("left", "right"), ("right", "left")])
def test_a_batch_of_direct_projections_equals_one_sample_at_a_time(padding: tuple[Padding, Padding]) -> None:
    samples = [conversation(), three_against_three()]
    alignments = [align(*pair) for pair in samples]
    projections = [project(*pair, alignment) for pair, alignment in zip(samples, alignments, strict=True)]
    widths = (22, 15)
    batch = direct_batch(projections, alignments, lengths=widths, padding=padding, keys="content")
    for i, (pair, alignment, projection) in enumerate(zip(samples, alignments, projections, strict=True)):
        size, other = lengths(*pair)
        maps, own = causal_maps(1, 2, size, size, seed=30 + i), causal_maps(1, 2, other, other, seed=40 + i)
        many = padded(maps, widths[0], padding[0], 0.3).expand(2, -1, -1, -1)
        many_own = padded(own, widths[1], padding[1], 0.3).expand(2, -1, -1, -1)
        shift = widths[1] - other if padding[1] == "left" else 0
        response = torch.tensor([alignment.kinds[chunk] == "response" for chunk in alignment.student.of_token])
        asking = (response & projection.exact).nonzero().flatten()
        count = int(batch.rows[i].sum())
        assert (batch.queries[i, :count] - shift).tolist() == asking.tolist()
        inside = slice(shift, shift + other)
        assert batch.keys[i, inside].tolist() == list(alignment.student.content)
        assert int(batch.keys[i].sum()) == sum(alignment.student.content)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            carried = batch.teacher(many)[i, :, :count]
        torch.testing.assert_close(carried[..., inside], projection.carry(maps)[0, :, asking], atol=1e-7, rtol=0)
        assert float(carried.sum(-1).sub(1).abs().max()) < 1e-6
        assert torch.equal(batch.student(many_own)[i, :, :count, inside], own[0, :, asking])
    assert int(batch.rows.sum()) == 4 + 2


def test_a_batch_moves_to_another_device_whole() -> None:
    pair = three_against_three()
    alignment = align(*pair)
    moved = chunk_batch([alignment], lengths=lengths(*pair)).to("meta")
    tensors = (moved.teacher.chunks, moved.student.rows, moved.queries, moved.rows, moved.keys)
    assert all(tensor.is_meta for tensor in tensors)
    direct = direct_batch([project(*pair, alignment)], [alignment], lengths=lengths(*pair)).to("meta")
    assert all(getattr(direct, name).is_meta for name in ("projection", "columns", "queries", "rows", "keys"))


def test_alignments_of_prompts_alone_ask_nothing() -> None:
    prompt = joined("<s>", "hi", "", roles=["user"])
    alignment: Alignment = align(prompt, prompt)
    assert alignment.coverage == 0
    assert chunk_batch([alignment], lengths=lengths(prompt, prompt)).rows.shape == (1, 0)
