"""Losses between two vocabularies: chunk likelihoods and sorted probabilities."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from subl.matching.chunk_loss import alm, alm_loss, log1mexp, uld
from subl.models.alignment import Rendered, align
from subl.models.alignment_maps import chunk_batch, chunk_sums
from tests.matching.squeezing_reference import normal
from tests.models.spelling import pairs


def scalar(value: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(value, dtype=dtype)


@pytest.mark.parametrize(("temperature", "excess"), [(1.0, 0.0921313), (100.0, 0.00185877)])
def test_a_chunk_has_the_published_excess(temperature: float, excess: float) -> None:
    value = alm(scalar(-2.0), scalar(-1.2), temperature=temperature)
    assert float(value) == pytest.approx(excess, rel=3e-6)
    single = alm(scalar(-2.0, torch.float32), scalar(-1.2, torch.float32), temperature=temperature)
    assert float(single) == pytest.approx(excess, rel=1e-3)


def test_the_default_temperature_is_the_published_one() -> None:
    assert float(alm(scalar(-2.0), scalar(-1.2))) == pytest.approx(0.00185877, rel=3e-6)


def test_at_high_temperature_log_probabilities_are_compared() -> None:
    value = 300 * alm(scalar(-2.0), scalar(-1.2), temperature=300)
    limit = (-1.2 + 2.0) - 1.2 * (math.log(2.0) - math.log(1.2))
    assert limit == pytest.approx(0.18701, abs=1e-5)
    assert float(value) == pytest.approx(limit, rel=3e-3)


LOG_PROBS = st.floats(-200, 0)


@given(LOG_PROBS, LOG_PROBS, st.sampled_from([1.0, 10.0, 100.0]))
@settings(max_examples=200, deadline=None)
def test_equally_likely_chunks_cost_exactly_nothing_and_others_something(
    own: float, wanted: float, temperature: float
) -> None:
    for dtype in (torch.float64, torch.float32):
        assert float(alm(scalar(own, dtype), scalar(own, dtype), temperature=temperature)) == 0
    value = float(alm(scalar(own), scalar(wanted), temperature=temperature))
    assert value >= -1e-15
    x, y = (math.exp(side / temperature - 1e-6) for side in (wanted, own))
    if 1e-3 < x < 1 - 1e-3 and 1e-3 < y < 1 - 1e-3:
        cross_entropy = -(x * math.log(y) + (1 - x) * math.log(1 - y))
        minimum = -(x * math.log(x) + (1 - x) * math.log(1 - x))
        assert value == pytest.approx(cross_entropy - minimum, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("temperature", [1.0, 100.0])
def test_certain_and_impossible_chunks_leave_value_and_gradient_finite(dtype: torch.dtype, temperature: float) -> None:
    sides = [0.0, -1e-12, -1e-7, -1e-3, -1.0, -50.0, -1e3, -1e6]
    wanted, own = (side.flatten() for side in torch.meshgrid(*[torch.tensor(sides, dtype=dtype)] * 2, indexing="ij"))
    own.requires_grad_()
    values = alm(own, wanted, temperature=temperature)
    [gradient] = torch.autograd.grad(values.sum(), [own])
    assert bool(values.isfinite().all())
    assert bool(gradient.isfinite().all())
    assert bool(alm(own, torch.full_like(own, -torch.inf), temperature=temperature).isfinite().all())
    # Every student is pulled towards its teacher: none is stuck, the overconfident one included.
    apart = (own - wanted).abs() > 1e-2 * wanted.abs() + 1e-5
    pull = gradient * (own - wanted).sign()
    plain = apart & (own > -20) & (wanted > -20)
    assert bool((pull[plain] > 0).all())


def test_a_log_probability_that_rounding_made_positive_is_that_of_certainty() -> None:
    above = torch.tensor(2e-5)
    assert float(alm(above, scalar(-1.0), temperature=1.0)) == float(
        alm(scalar(0.0).float(), scalar(-1.0), temperature=1.0)
    )
    assert float(alm(scalar(-1.0), above, temperature=1.0)) == float(alm(scalar(-1.0), scalar(0.0), temperature=1.0))


def test_an_overconfident_student_gets_a_bounded_gradient_in_its_logits() -> None:
    for gap in (5.0, 10.0, 14.0, 16.0):
        logits = torch.tensor([gap, 0.0], requires_grad=True)
        [gradient] = torch.autograd.grad(alm(logits.log_softmax(-1)[0], scalar(-1.2)), [logits])
        assert 0 < float(gradient[0]) < 0.1


def test_the_gradient_of_the_chunk_loss_is_right_and_none_of_it_reaches_the_teacher() -> None:
    own = (-normal(6, seed=1).abs() * 3).requires_grad_()
    wanted = (-normal(6, seed=2).abs() * 3).requires_grad_()
    for temperature in (1.0, 100.0):
        assert torch.autograd.gradcheck(lambda own, t=temperature: alm(own, wanted, temperature=t), [own])
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(alm(own, wanted).sum(), [wanted])


def test_chunks_that_do_not_count_may_hold_anything() -> None:
    own = torch.tensor([[-1.0, torch.nan, -1.0], [-2.0, -3.0, 7.0]], requires_grad=True)
    wanted = torch.tensor([[-1.5, -1.0, torch.nan], [-2.0, -1.0, 7.0]])
    counted = torch.tensor([[True, False, False], [True, True, False]])
    loss = alm_loss(own, wanted, counted, temperature=2.0)
    [gradient] = torch.autograd.grad(loss.total, [own])
    assert int(loss.count) == 3
    expected = [alm(own.detach()[i, j], wanted[i, j], temperature=2.0) for i, j in ((0, 0), (1, 0), (1, 1))]
    assert float(loss.mean.detach()) == pytest.approx(float(sum(expected)) / 3)
    assert bool(gradient.isfinite().all())
    assert float(gradient[~counted].abs().max()) == 0


@given(pairs(), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_chunks_of_two_tokenizations_cost_nothing_where_both_sides_find_the_text_equally_likely(
    pair: tuple[Rendered, Rendered], seed: int
) -> None:
    alignment = align(*pair)
    sizes = (len(pair[0].input_ids), len(pair[1].input_ids))
    batch = chunk_batch([alignment], lengths=sizes)
    teacher = chunk_sums(-normal(1, sizes[0], seed=seed).abs(), batch, "teacher")
    tokens = batch.student.chunks
    shares = torch.ones(1, sizes[1], dtype=torch.float64)
    per_chunk = chunk_sums(shares, batch, "student")
    student = chunk_sums((teacher / per_chunk).gather(1, tokens), batch, "student")
    assert float(student.sum()) == pytest.approx(float(teacher.sum()), abs=1e-12)
    assert float(alm(student, teacher, temperature=1.0).abs().max()) < 1e-12
    assert float(alm(student - 0.5, teacher, temperature=1.0).min()) > 0


@pytest.mark.parametrize("exponent", [-30, -12, -8, -3, -1, -0.16, 0, 1, 1.5])
def test_the_logarithm_of_one_minus_an_exponential_is_exact_at_both_ends(exponent: float) -> None:
    x = -(10**exponent)
    with localcontext() as context:
        context.prec = 80
        exact = float((1 - Decimal(x).exp()).ln())
    value = scalar(x).requires_grad_()
    result = log1mexp(value)
    [gradient] = torch.autograd.grad(result, [value])
    assert float(result.detach()) == pytest.approx(exact, rel=1e-14)
    assert float(gradient) == pytest.approx(-1 / math.expm1(-x), rel=1e-12)


def test_sorted_distributions_have_the_published_distance() -> None:
    p = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    q = torch.tensor([0.1, 0.6, 0.25, 0.05], dtype=torch.float64).log()
    assert float(uld(q, p)) == pytest.approx(0.30, abs=1e-12)
    assert float(uld(p, q)) == pytest.approx(0.30, abs=1e-12)


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 30), st.sampled_from([0.1, 1.0, 30.0]))
@settings(max_examples=100, deadline=None)
def test_sorted_distances_know_no_token_from_another(seed: int, size: int, other: int, scale: float) -> None:
    student, teacher = normal(4, size, seed=seed) * scale, normal(4, other, seed=seed + 1) * scale
    value = uld(student, teacher)
    assert float(value.min()) >= 0
    assert float(value.max()) <= 2 + 1e-12
    generator = torch.Generator().manual_seed(seed)
    order, another = torch.randperm(size, generator=generator), torch.randperm(other, generator=generator)
    torch.testing.assert_close(uld(student[:, order], teacher[:, another]), value)
    assert float(uld(student[:, order], student).abs().max()) < 1e-15
    impossible = torch.full((4, 3), -torch.inf, dtype=torch.float64)
    torch.testing.assert_close(uld(torch.cat((student, impossible), dim=-1), teacher), value)


def test_the_gradient_of_the_sorted_distance_is_right_and_none_of_it_reaches_the_teacher() -> None:
    student, teacher = normal(3, 5, seed=3).requires_grad_(), normal(3, 8, seed=4).requires_grad_()
    assert torch.autograd.gradcheck(lambda student: uld(student, teacher), [student])
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(uld(student, teacher).sum(), [teacher])


def test_half_precision_distributions_are_sorted_in_single() -> None:
    student, teacher = normal(3, 50, seed=5).bfloat16(), normal(3, 70, seed=6).bfloat16()
    value = uld(student, teacher)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, uld(student.double(), teacher.double()).float())
