"""The loss between attention maps, against values worked out by hand and against its definition."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from subl.matching.loss_sum import LossSum
from subl.matching.map_loss import (
    Divergence,
    causal_keys,
    head_costs,
    log_map,
    map_loss,
    match_heads,
    over_layers,
    row_divergence,
    soften,
)
from subl.matching.squeezing import output_gram, plan_heads, squeeze
from tests.matching.squeezing_reference import causal_maps, normal

DIVERGENCES: list[Divergence] = ["forward_kl", "reverse_kl", "jsd", "mse"]


def all_keys(length: int, batch: int = 1) -> Tensor:
    return causal_keys(torch.arange(length).expand(batch, length), torch.ones(batch, length, dtype=torch.bool))


def all_rows(length: int, batch: int = 1) -> Tensor:
    return torch.ones(batch, length, dtype=torch.bool)


def map_of(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)[None, None]


def entropy_sum(p: Tensor, q: Tensor) -> float:
    return float(torch.special.xlogy(p, p / q.clamp_min(1e-300)).sum())


@pytest.mark.parametrize(
    ("divergence", "value"),
    [
        ("forward_kl", 0.130812035941),
        ("reverse_kl", 0.143841036226),
        ("jsd", 0.033822075569),
        ("mse", 0.0625),
    ],
)
def test_a_row_has_the_divergence_worked_out_by_hand(divergence: Divergence, value: float) -> None:
    teacher, student = map_of([1, 0], [0.75, 0.25]), map_of([1, 0], [0.5, 0.5])
    rows = row_divergence(teacher, student.log(), allowed=all_keys(2), divergence=divergence)
    assert rows[0, 0].tolist() == pytest.approx([0, value], abs=1e-12)
    loss = map_loss(teacher, student.log(), rows=all_rows(2), allowed=all_keys(2), divergence=divergence)
    assert float(loss.mean) == pytest.approx(value / 2, abs=1e-12)  # 0.065406017971 for KL, 0.03125 for MSE
    same = row_divergence(teacher, teacher.log(), allowed=all_keys(2), divergence=divergence)
    assert float(same.abs().max()) < 1e-15


def test_three_token_distributions_have_the_published_divergences() -> None:
    p, q = map_of([0.7, 0.2, 0.1]), map_of([0.5, 0.25, 0.25])
    allowed = torch.ones(1, 1, 1, 3, dtype=torch.bool)

    def value(divergence: Divergence, temperature: float = 1.0) -> float:
        return float(row_divergence(p, q.log(), allowed=allowed, divergence=divergence, temperature=temperature))

    assert value("forward_kl") == pytest.approx(0.099272782, abs=1e-9)
    assert value("reverse_kl") == pytest.approx(0.116622452, abs=1e-9)
    assert value("jsd") == pytest.approx(0.026367688, abs=1e-9)
    assert value("forward_kl", temperature=2) == pytest.approx(0.123894902, abs=1e-9)


def test_the_gradient_is_the_difference_of_maps_over_the_rows_and_none_above_the_diagonal() -> None:
    teacher = causal_maps(1, 1, 5, 5, seed=1).requires_grad_()
    scores = normal(1, 1, 5, 5, seed=2).requires_grad_()
    student_log = scores.masked_fill(~all_keys(5), -torch.inf).log_softmax(-1)
    loss = map_loss(teacher, student_log, rows=all_rows(5), allowed=all_keys(5)).mean
    [gradient] = torch.autograd.grad(loss, [scores], retain_graph=True)
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(loss, [teacher])
    torch.testing.assert_close(gradient, (student_log.exp() - teacher).detach() / 5)
    assert float(gradient.triu(1).abs().max()) == 0


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_maps_carried_as_probabilities_give_the_loss_of_their_scores(divergence: Divergence) -> None:
    teacher, scores = causal_maps(2, 3, 6, 6, seed=3), normal(2, 3, 6, 6, seed=4)
    student_log = scores.masked_fill(~all_keys(6), -torch.inf).log_softmax(-1)
    for temperature in (1.0, 0.5, 3.0):
        exact, carried = (
            row_divergence(teacher, log, allowed=all_keys(6), divergence=divergence, temperature=temperature)
            for log in (student_log, log_map(student_log.exp()))
        )
        assert bool(exact.isfinite().all())
        torch.testing.assert_close(carried, exact)


def test_scores_far_apart_keep_their_divergence_and_gradient() -> None:
    """Floored probabilities would say 9.67 where the divergence is 99.31, and would not move the student."""
    scores = map_of([0, 200]).requires_grad_()
    teacher, allowed = map_of([0.5, 0.5]), torch.ones(1, 1, 1, 2, dtype=torch.bool)
    exact = row_divergence(teacher, scores.log_softmax(-1), allowed=allowed).sum()
    assert float(exact.detach()) == pytest.approx(99.3068528194, abs=1e-9)
    [gradient] = torch.autograd.grad(exact, [scores])
    assert gradient.flatten().tolist() == pytest.approx([-0.5, 0.5], abs=1e-12)
    assert float(row_divergence(teacher, log_map(scores.detach().softmax(-1)), allowed=allowed)) < 15


def test_softening_equals_dividing_scores_by_the_temperature() -> None:
    assert soften(torch.tensor([0.9, 0.1], dtype=torch.float64), 2).tolist() == pytest.approx([0.75, 0.25], abs=1e-15)
    scores = normal(4, 7, seed=5)
    for temperature in (0.5, 2.0, 4.0):
        torch.testing.assert_close(soften(scores.softmax(-1), temperature), (scores / temperature).softmax(-1))
    maps = causal_maps(6, 6, seed=6)
    assert float(soften(maps, 3).triu(1).abs().max()) == 0
    assert soften(maps, 1) is maps


def test_softening_before_squeezing_is_another_thing_than_after() -> None:
    maps, values = causal_maps(1, 2, 8, 8, seed=7), normal(1, 2, 8, 3, seed=8)
    gram = output_gram(normal(5, 6, seed=9), plan_heads(2, 1))
    after, before = soften(squeeze(maps, values, gram).maps, 2), squeeze(soften(maps, 2), values, gram).maps
    assert float((after - before).abs().max()) > 1e-3


def test_the_temperature_keeps_the_scale_of_the_gradient() -> None:
    teacher = map_of([0.6, 0.4])
    norms = []
    for temperature in (1.0, 4.0, 16.0):
        scores = map_of([0.1, 0.0]).requires_grad_()
        allowed = torch.ones(1, 1, 1, 2, dtype=torch.bool)
        loss = row_divergence(teacher, scores.log_softmax(-1), allowed=allowed, temperature=temperature)
        norms.append(float(torch.autograd.grad(loss.sum(), [scores])[0].norm()))
    assert norms[2] == pytest.approx(norms[0], rel=0.05)


def test_fewer_teacher_heads_move_every_student_head_and_agree_when_the_squeezed_student_does() -> None:
    scores, values = normal(1, 4, 6, 6, seed=10).requires_grad_(), normal(1, 1, 6, 3, seed=11)
    gram = output_gram(normal(7, 12, seed=12), plan_heads(4, 2, kv_heads=1))
    maps = scores.masked_fill(~all_keys(6), -torch.inf).softmax(-1)
    squeezed = squeeze(maps, values, gram).maps
    rows, allowed = all_rows(6), all_keys(6)
    agreed = map_loss(squeezed, log_map(squeezed), rows=rows, allowed=allowed).mean
    assert float(agreed.detach()) == pytest.approx(0, abs=1e-15)
    loss = map_loss(causal_maps(1, 2, 6, 6, seed=13), log_map(squeezed), rows=rows, allowed=allowed).mean
    [gradient] = torch.autograd.grad(loss, [scores])
    assert float(gradient.flatten(2).norm(dim=-1).min()) > 1e-3


def test_keys_without_shared_text_leave_with_their_mass() -> None:
    """The teacher's row [.9, .06, .04] on the last two keys is [.6, .4] and counts a tenth."""
    teacher, student = map_of([0.9, 0.06, 0.04]), map_of([0.5, 0.1, 0.4])
    allowed = torch.tensor([[[[False, True, True]]]])
    value = float(row_divergence(teacher, student.log(), allowed=allowed))
    assert value == pytest.approx(0.1 * entropy_sum(map_of([0.6, 0.4]), map_of([0.2, 0.8])), abs=1e-15)


def test_the_divergence_on_some_keys_is_a_part_of_the_divergence_on_all() -> None:
    teacher, student = causal_maps(3, 2, 9, 9, seed=14), causal_maps(3, 2, 9, 9, seed=15)
    wanted = torch.rand(3, 9, generator=torch.Generator().manual_seed(16)) < 0.5
    some = causal_keys(torch.arange(9).expand(3, 9), wanted)
    part, whole = (row_divergence(teacher, student.log(), allowed=allowed) for allowed in (some, all_keys(9, 3)))
    inside = [(m * some).sum(-1).clamp(1e-300, 1) for m in (teacher, student)]
    rest = [(1 - m).clamp_min(1e-300) for m in inside]
    between = inside[0] * (inside[0] / inside[1]).log() + rest[0] * (rest[0] / rest[1]).log()
    other = row_divergence(teacher, student.log(), allowed=all_keys(9, 3) & ~some)
    torch.testing.assert_close(part + other + between, whole, atol=1e-12, rtol=0)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_rows_and_keys_that_do_not_count_may_hold_anything(divergence: Divergence) -> None:
    teacher, student = causal_maps(2, 3, 7, 7, seed=17), causal_maps(2, 3, 7, 7, seed=18)
    rows = torch.tensor([[False, False, True, True, True, False, False], [False, False, False, True, True, True, True]])
    keys = torch.tensor([[True] * 5 + [False] * 2, [False] + [True] * 6])
    allowed = causal_keys(torch.arange(7).expand(2, 7), keys)
    clean = map_loss(teacher, student.log(), rows=rows, allowed=allowed, divergence=divergence)
    compared = (allowed & rows[:, None, :, None]).expand_as(teacher)
    student_log = torch.where(compared, student.log(), torch.nan).requires_grad_()
    dirty = map_loss(
        torch.where(compared, teacher, torch.nan), student_log, rows=rows, allowed=allowed, divergence=divergence
    )
    assert int(dirty.count) == 7
    torch.testing.assert_close(dirty.total, clean.total)
    [gradient] = torch.autograd.grad(dirty.total, [student_log])
    assert bool(gradient.isfinite().all())
    assert float(gradient[~compared].abs().max()) == 0


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_longer_neighbour_in_the_batch_changes_no_sample_s_loss(divergence: Divergence) -> None:
    short_t, short_s = causal_maps(1, 2, 5, 5, seed=19), causal_maps(1, 2, 5, 5, seed=20)
    long_t, long_s = causal_maps(1, 2, 9, 9, seed=21), causal_maps(1, 2, 9, 9, seed=22)

    def padded(maps: Tensor, other: Tensor) -> Tensor:
        wide = torch.zeros_like(other)
        wide[..., :5, :5] = maps
        return torch.cat([wide, other])

    rows = torch.tensor([[False, True, True, True, True] + [False] * 4, [False] * 4 + [True] * 5])
    keys = torch.tensor([[True] * 5 + [False] * 4, [True] * 9])
    both = map_loss(
        padded(short_t, long_t),
        log_map(padded(short_s, long_s)),
        rows=rows,
        allowed=causal_keys(torch.arange(9).expand(2, 9), keys),
        divergence=divergence,
    )
    first = map_loss(short_t, log_map(short_s), rows=rows[:1, :5], allowed=all_keys(5), divergence=divergence)
    second = map_loss(long_t, log_map(long_s), rows=rows[1:], allowed=all_keys(9), divergence=divergence)
    torch.testing.assert_close(both.total, first.total + second.total, atol=1e-12, rtol=0)
    assert int(both.count) == int(first.count + second.count) == 9


def test_reductions_count_rows_or_samples() -> None:
    teacher, student = causal_maps(3, 2, 6, 6, seed=23), causal_maps(3, 2, 6, 6, seed=24)
    rows = torch.tensor([[False] * 5 + [True], [False, False] + [True] * 4, [False] * 6])
    by_row = row_divergence(teacher, student.log(), allowed=all_keys(6, 3)).mean(1)
    losses = [
        map_loss(teacher, student.log(), rows=rows, allowed=all_keys(6, 3), reduction=reduction)
        for reduction in ("row", "sample")
    ]
    assert float(losses[0].mean) == pytest.approx(float(by_row[rows].mean()), abs=1e-14)
    per_sample = (by_row[0, 5] + by_row[1, 2:].mean()) / 2
    assert float(losses[1].mean) == pytest.approx(float(per_sample), abs=1e-14)
    empty = map_loss(teacher, student.log(), rows=torch.zeros_like(rows), allowed=all_keys(6, 3))
    assert (float(empty.mean), int(empty.count)) == (0, 0)


def test_layers_average_and_beta_scales() -> None:
    losses = [LossSum(torch.tensor(total), torch.tensor(4)) for total in (2.0, 6.0)]
    assert float(over_layers(losses, beta=0.5).mean) == 0.5


def test_the_loss_of_16_bit_maps_is_computed_in_single_precision() -> None:
    teacher, student = causal_maps(1, 2, 16, 16, seed=25), causal_maps(1, 2, 16, 16, seed=26)
    exact = map_loss(teacher, student.log(), rows=all_rows(16), allowed=all_keys(16)).mean
    with torch.autocast("cpu", dtype=torch.bfloat16):
        single = map_loss(teacher.float(), student.float().log(), rows=all_rows(16), allowed=all_keys(16)).mean
    half = map_loss(teacher.bfloat16(), log_map(student.bfloat16()), rows=all_rows(16), allowed=all_keys(16)).mean
    assert single.dtype == half.dtype == torch.float32
    assert float(single) == pytest.approx(float(exact), rel=1e-5)
    assert float(half) == pytest.approx(float(exact), rel=1e-2)


def test_heads_are_matched_to_the_cheapest_permutation() -> None:
    teacher = causal_maps(2, 4, 7, 7, seed=27)
    order = [2, 0, 3, 1]
    rows, allowed = all_rows(7, 2), all_keys(7, 2)
    costs = head_costs(teacher, log_map(teacher[:, order]), rows=rows, allowed=allowed)
    assert match_heads(costs) == tuple(order)
    one = map_loss(teacher[:, [1]], log_map(teacher[:, [3]]), rows=rows, allowed=allowed).mean
    torch.testing.assert_close(costs[1, 2], one)
    rough = normal(5, 5, seed=28)
    cheapest = min(itertools.permutations(range(5)), key=lambda p: sum(float(rough[t, s]) for s, t in enumerate(p)))
    assert match_heads(rough) == cheapest
