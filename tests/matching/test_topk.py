"""Stored distributions: the bucket for the rest, its bound, and what rounding costs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from subl.matching.logit_loss import Divergence, logit_divergence
from subl.matching.topk import top_k, top_k_divergence
from tests.matching.squeezing_reference import normal

DIVERGENCES: list[Divergence] = ["forward_kl", "reverse_kl", "jsd"]
P = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
Q = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)


def exactly(logits: Tensor, k: int, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    return top_k(logits, k, temperature=temperature, dtype=torch.float64)


def test_a_tail_of_one_token_makes_the_bucket_exact_and_dropping_it_does_not() -> None:
    ids, log_probs = exactly(P.log(), 2)
    assert ids.tolist() == [0, 1]
    assert log_probs.exp().tolist() == pytest.approx(P.tolist())
    assert float(top_k_divergence(Q.log(), ids, log_probs)) == pytest.approx(0.099272782, abs=5e-10)
    dropped = (P[:2] * (P[:2] / Q[:2]).log()).sum()
    assert float(dropped) == pytest.approx(0.190901855, abs=5e-10)


@given(
    st.sampled_from(DIVERGENCES),
    st.integers(0, 10_000),
    st.integers(2, 30),
    st.integers(1, 30),
    st.sampled_from([0.3, 3.0, 20.0]),
    st.sampled_from([1.0, 2.0]),
)
@settings(max_examples=150, deadline=None)
def test_the_bucket_gives_a_lower_bound_that_grows_with_k(
    divergence: Divergence, seed: int, size: int, k: int, scale: float, temperature: float
) -> None:
    teacher, student = normal(3, size, seed=seed) * scale, normal(3, size, seed=seed + 1) * scale
    whole = logit_divergence(student, teacher, divergence=divergence, temperature=temperature)

    def bucketed(k: int) -> Tensor:
        stored = exactly(teacher, k, temperature)
        return top_k_divergence(student, *stored, divergence=divergence, temperature=temperature)

    fewer, more = bucketed(k), bucketed(k + 1)
    assert float(fewer.min()) > -1e-12
    assert bool((fewer <= more + 1e-9 * (1 + more)).all())
    assert bool((more <= whole + 1e-9 * (1 + whole)).all())
    if k >= size - 1:
        torch.testing.assert_close(fewer, whole)


def test_the_bucket_is_what_merging_the_rest_by_hand_gives() -> None:
    teacher, student = normal(4, 12, seed=1), normal(4, 12, seed=2)
    ids, log_probs = exactly(teacher, 3)

    def merged(logits: Tensor) -> Tensor:
        kept = logits.softmax(-1).gather(-1, ids.long())
        return torch.cat((kept, 1 - kept.sum(-1, keepdim=True)), dim=-1)

    p, q = merged(teacher), merged(student)
    torch.testing.assert_close(log_probs.exp(), p)
    torch.testing.assert_close(top_k_divergence(student, ids, log_probs), (p * (p / q).log()).sum(-1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_position_takes_six_bytes_per_token_and_two(dtype: torch.dtype) -> None:
    ids, log_probs = top_k(normal(5, 100, seed=3), 16, dtype=dtype)
    assert ids.shape == (5, 16)
    assert log_probs.shape == (5, 17)
    assert (ids.dtype, log_probs.dtype) == (torch.int32, dtype)
    assert (ids.nbytes + log_probs.nbytes) // 5 == 6 * 16 + 2
    assert bool((log_probs[:, :16].diff() <= 0).all())


@pytest.mark.parametrize(("dtype", "relative"), [(torch.float16, 4e-3), (torch.bfloat16, 3.2e-2)])
def test_stored_probabilities_are_off_by_no_more_than_documented(dtype: torch.dtype, relative: float) -> None:
    logits = torch.linspace(0, -15.5, 400, dtype=torch.float64).expand(3, -1)
    _, exact = exactly(logits, 399)
    _, stored = top_k(logits, 399, dtype=dtype)
    inside = exact > -16
    assert float((stored.double() - exact)[inside].exp().sub(1).abs().max()) < relative


@pytest.mark.parametrize(("dtype", "error"), [(torch.float16, 1e-5), (torch.bfloat16, 3e-4)])
def test_rounding_moves_a_small_divergence_little_and_never_below_zero(dtype: torch.dtype, error: float) -> None:
    teacher = normal(200, 300, seed=4) * 4
    student = teacher + normal(200, 300, seed=5) * 0.05
    exact = top_k_divergence(student, *exactly(teacher, 32))
    stored = top_k_divergence(student.float(), *top_k(teacher, 32, dtype=dtype))
    assert float((stored.mean() - exact.mean()).abs()) < error
    assert float(stored.min()) > -1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("gap", [10.0, 40.0, 300.0])
def test_a_tail_without_mass_leaves_value_and_gradient_finite(
    dtype: torch.dtype, divergence: Divergence, gap: float
) -> None:
    teacher = torch.tensor([[gap, gap - 1, 0, 0, 0]], dtype=dtype)
    student = torch.tensor([[gap - 1, gap, 1, 0, 0]], dtype=dtype, requires_grad=True)
    value = top_k_divergence(student, *top_k(teacher, 2), divergence=divergence)
    [gradient] = torch.autograd.grad(value.sum(), [student])
    assert bool(gradient.isfinite().all())
    whole = logit_divergence(student.detach().double(), teacher.double(), divergence=divergence)
    assert float(value.detach()) == pytest.approx(float(whole), rel=2e-3)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_mask_that_leaves_fewer_tokens_than_are_kept_is_no_problem(divergence: Divergence) -> None:
    teacher, student = normal(2, 8, seed=6), normal(2, 8, seed=7)
    teacher[:, 2:] = -torch.inf
    student[:, 2:] = -torch.inf
    ids, log_probs = top_k(teacher, 4)
    assert bool((log_probs[:, 2:] == -torch.inf).all())
    value = top_k_divergence(student, ids, log_probs, divergence=divergence)
    whole = logit_divergence(student[:, :2], teacher[:, :2], divergence=divergence)
    torch.testing.assert_close(value, whole, atol=1e-4, rtol=1e-2)


def test_more_tokens_than_the_vocabulary_has_are_all_of_them() -> None:
    teacher, student = normal(2, 5, seed=8), normal(2, 5, seed=9).requires_grad_()
    ids, log_probs = exactly(teacher, 64)
    assert ids.shape == (2, 5)
    assert bool((log_probs[:, -1] == -torch.inf).all())
    value = top_k_divergence(student, ids, log_probs)
    torch.testing.assert_close(value, logit_divergence(student, teacher))
    assert torch.autograd.gradcheck(lambda student: top_k_divergence(student, ids, log_probs), [student])


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_gradient_is_right_and_none_of_it_reaches_the_teacher(divergence: Divergence) -> None:
    teacher, student = normal(2, 7, seed=10).requires_grad_(), normal(2, 7, seed=11).requires_grad_()
    stored = exactly(teacher, 3, 2.0)
    assert not stored[1].requires_grad

    def loss(student: Tensor) -> Tensor:
        return top_k_divergence(student, *stored, divergence=divergence, temperature=2.0)

    assert torch.autograd.gradcheck(loss, [student])


def test_equal_models_have_no_divergence_beyond_rounding() -> None:
    logits = normal(50, 400, seed=12) * 3
    value = top_k_divergence(logits.float(), *top_k(logits, 64))
    assert float(value.abs().max()) < 1e-5
