"""The loss of logit distillation: closed forms, definitions, gradients, and TRL's kernel beside our own chunks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from subl.errors import ModelError
from subl.matching import logit_loss
from subl.matching.logit_loss import (
    Divergence,
    Head,
    by_positions,
    hidden_divergence,
    logit_divergence,
    restricted,
    summed,
    token_log_probs,
)
from tests.matching.squeezing_reference import normal

DIVERGENCES: list[Divergence] = ["forward_kl", "reverse_kl", "jsd"]
P = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
Q = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)


def heads(vocabulary: int = 50, *, bias: bool = True, dtype: torch.dtype = torch.float32) -> tuple[Head, Head]:
    """Return a student's head of width 6 and a teacher's of width 9."""
    student, teacher = normal(vocabulary, 6, seed=1).to(dtype), normal(vocabulary, 9, seed=2).to(dtype)
    offsets = (normal(vocabulary, seed=3).to(dtype), normal(vocabulary, seed=4).to(dtype)) if bias else (None, None)
    return Head(student.requires_grad_(), None if offsets[0] is None else offsets[0].requires_grad_()), Head(
        teacher, offsets[1]
    )


def parameters(head: Head) -> list[Tensor]:
    return [part for part in (head.weight, head.bias) if part is not None]


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"divergence": "forward_kl"}, 0.099272782),
        ({"divergence": "reverse_kl"}, 0.116622452),
        ({"divergence": "jsd", "beta": 0.5}, 0.026367688),
        ({"divergence": "jsd", "beta": 0.1}, 0.009022891),
        ({"divergence": "forward_kl", "temperature": 2.0}, 0.123894902),
    ],
)
def test_three_token_distributions_have_the_published_divergences(options: dict[str, Any], value: float) -> None:
    assert float(logit_divergence(Q.log(), P.log(), **options)) == pytest.approx(value, abs=5e-10)
    shifted = logit_divergence((Q.log() + 7).float(), (P.log() - 3).float(), **options)
    assert float(shifted) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_mixture_divergence_is_what_it_is_defined_to_be(beta: float, temperature: float) -> None:
    student, teacher = normal(4, 20, seed=5), normal(4, 20, seed=6)
    p, q = (teacher / temperature).softmax(-1), (student / temperature).softmax(-1)
    m = beta * p + (1 - beta) * q
    expected = beta * (p * (p / m).log()).sum(-1) + (1 - beta) * (q * (q / m).log()).sum(-1)
    value = logit_divergence(student, teacher, divergence="jsd", beta=beta, temperature=temperature)
    torch.testing.assert_close(value, expected * temperature**2, atol=1e-14, rtol=1e-12)


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.5])
def test_a_mixture_of_one_side_alone_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        logit_divergence(Q.log(), P.log(), divergence="jsd", beta=beta)


@given(
    st.sampled_from(DIVERGENCES),
    st.integers(0, 10_000),
    st.integers(2, 40),
    st.sampled_from([0.1, 1.0, 10.0, 50.0]),
    st.sampled_from([0.5, 1.0, 2.0]),
)
@settings(max_examples=100, deadline=None)
def test_divergences_are_never_negative_and_zero_at_equality(
    divergence: Divergence, seed: int, size: int, scale: float, temperature: float
) -> None:
    teacher, student = normal(3, size, seed=seed) * scale, normal(3, size, seed=seed + 1) * scale
    values = logit_divergence(student, teacher, divergence=divergence, temperature=temperature)
    assert float(values.min()) > -1e-12
    same = logit_divergence(teacher + 5, teacher, divergence=divergence, temperature=temperature)
    assert float(same.abs().max()) < 1e-12
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    both = logit_divergence(student[:, order], teacher[:, order], divergence=divergence, temperature=temperature)
    torch.testing.assert_close(both, values)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_gradient_is_right_and_none_of_it_reaches_the_teacher(divergence: Divergence) -> None:
    student, teacher = normal(2, 5, seed=7).requires_grad_(), normal(2, 5, seed=8).requires_grad_()

    def loss(student: Tensor) -> Tensor:
        return logit_divergence(student, teacher, divergence=divergence, beta=0.3, temperature=1.5)

    assert torch.autograd.gradcheck(loss, [student])
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(loss(student).sum(), [teacher])


def test_the_gradient_of_the_forward_kl_is_the_difference_of_probabilities_at_any_temperature() -> None:
    student, teacher = normal(2, 5, seed=7).requires_grad_(), normal(2, 5, seed=8)
    [gradient] = torch.autograd.grad(logit_divergence(student, teacher, temperature=3).sum(), [student])
    expected = ((student / 3).softmax(-1) - (teacher / 3).softmax(-1)) * 3
    torch.testing.assert_close(gradient, expected.detach())


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("masked_student", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_tokens_that_the_teacher_masks_leave_value_and_gradient_finite(
    divergence: Divergence, masked_student: bool, dtype: torch.dtype
) -> None:
    teacher, student = normal(2, 6, seed=9).to(dtype), normal(2, 6, seed=10).to(dtype)
    teacher[:, 2:4] = -torch.inf
    if masked_student:
        student[:, 2:4] = -torch.inf
    student.requires_grad_()
    values = logit_divergence(student, teacher, divergence=divergence)
    [gradient] = torch.autograd.grad(values.sum(), [student])
    assert bool(values.isfinite().all())
    assert bool(gradient.isfinite().all())
    kept = torch.tensor([0, 1, 4, 5])
    if masked_student:
        alone = logit_divergence(student[:, kept], teacher[:, kept], divergence=divergence)
        torch.testing.assert_close(values, alone)
        assert float(gradient[:, 2:4].abs().max()) == 0
    elif divergence == "forward_kl":
        lost = 1 - student.softmax(-1)[:, 2:4].sum(-1)
        alone = logit_divergence(student[:, kept], teacher[:, kept])
        torch.testing.assert_close(values, alone - lost.log())


def test_logits_far_apart_leave_value_and_gradient_finite() -> None:
    student = torch.tensor([[200.0, 0.0, -200.0]], requires_grad=True)
    teacher = torch.tensor([[-200.0, 0.0, 200.0]])
    values = {divergence: logit_divergence(student, teacher, divergence=divergence) for divergence in DIVERGENCES}
    found = [float(value.detach()) for value in values.values()]
    assert found == pytest.approx([400, -logit_loss.LOWEST, math.log(2)])
    for value in values.values():
        assert bool(torch.autograd.grad(value, [student])[0].isfinite().all())


def test_half_precision_logits_are_compared_in_single() -> None:
    student, teacher = normal(8, 30, seed=11).bfloat16(), normal(8, 30, seed=12).bfloat16()
    value = logit_divergence(student, teacher)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, logit_divergence(student.double(), teacher.double()).float())


def test_a_restricted_softmax_is_renormalised() -> None:
    ids = torch.tensor([1, 3, 4])
    logits = normal(2, 6, seed=13)
    whole = logits.softmax(-1)[:, ids]
    torch.testing.assert_close(restricted(logits, ids).softmax(-1), whole / whole.sum(-1, keepdim=True))
    head, _ = heads(6, dtype=torch.float64)
    states = normal(4, 6, seed=14)
    torch.testing.assert_close(head.restricted(ids).logits(states), restricted(head.logits(states), ids))


def test_a_head_scales_and_then_caps_its_logits() -> None:
    head = Head(torch.eye(2, dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64), 0.5, 3.0)
    logits = head.logits(torch.tensor([[2.0, 100.0]], dtype=torch.float64))
    assert logits[0].tolist() == pytest.approx([3 * math.tanh(1 / 3), 3])


def test_a_head_multiplies_in_single_precision_whatever_the_training_loop_does() -> None:
    head = Head(normal(20, 8, seed=15).bfloat16())
    states = normal(4, 8, seed=16).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head.logits(states)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, (states.double() @ head.weight.double().T).float())


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("capped", [False, True])
def test_the_kernel_and_our_chunks_equal_the_plain_computation(
    beta: float, temperature: float, capped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    divergence: Divergence = {0.0: "forward_kl", 1.0: "reverse_kl"}.get(beta, "jsd")  # type: ignore[assignment]
    own, other = heads()
    if capped:
        own, other = Head(own.weight, own.bias, 0.5, 4.0), Head(other.weight, other.bias, 1.5, 5.0)
    states, teacher_states = normal(23, 6, seed=17).float().requires_grad_(), normal(23, 9, seed=18).float()
    inputs = [states, *parameters(own)]
    weights = normal(23, seed=19).float()

    def compute(limit: int, *, kernel: bool) -> tuple[Tensor, ...]:
        monkeypatch.setattr(logit_loss, "ALIVE", limit)
        if not kernel:
            monkeypatch.setattr(logit_loss, "_kernel", lambda: None)
        value = hidden_divergence(
            states, own, teacher_states, other, divergence=divergence, beta=beta, temperature=temperature
        )
        return value.detach(), *torch.autograd.grad((value * weights).sum(), inputs)

    double = [tensor.detach().double().requires_grad_() for tensor in inputs]
    head = Head(double[1], double[2], own.scale, own.softcap)
    exact = logit_divergence(
        head.logits(double[0]),
        other.logits(teacher_states).double(),
        divergence=divergence,
        beta=beta,
        temperature=temperature,
    )
    plain = (exact.detach(), *torch.autograd.grad((exact * weights).sum(), double))
    # One chunk of positions; the kernel; four chunks of seven positions or less.
    for found in (compute(10**9, kernel=True), compute(1, kernel=True), compute(7 * 50, kernel=False)):
        for value, expected in zip(found, plain, strict=True):
            torch.testing.assert_close(value.double(), expected, atol=1e-5, rtol=1e-5)


def test_the_kernel_is_taken_for_many_logits_in_single_precision_only(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    class Kernel:
        @staticmethod
        def apply(states: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
            calls.append(len(states))
            return torch.ones(len(states)), torch.ones(len(states))

    monkeypatch.setattr(logit_loss, "_kernel", lambda: Kernel)
    own, other = heads(bias=False)
    states = normal(8, 6, seed=20).float(), normal(8, 9, seed=21).float()
    hidden_divergence(states[0], own, states[1], other)
    assert calls == []
    monkeypatch.setattr(logit_loss, "ALIVE", 8 * 50 - 1)
    assert hidden_divergence(states[0], own, states[1], other, temperature=2).tolist() == [4.0] * 8
    assert calls == [8]
    hidden_divergence(states[0].double(), own, states[1].double(), other)
    assert calls == [8]


def test_chunks_are_exact_in_double_precision_and_reach_what_they_close_over(monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = heads(dtype=torch.float64)
    states, teacher_states = normal(10, 6, seed=22).requires_grad_(), normal(10, 9, seed=23)
    inputs = [states, *parameters(own)]

    def gradients() -> tuple[Tensor, ...]:
        return torch.autograd.grad(hidden_divergence(states, own, teacher_states, other).sum(), inputs)

    whole = gradients()
    monkeypatch.setattr(logit_loss, "ALIVE", 3 * 50)
    for value, expected in zip(gradients(), whole, strict=True):
        torch.testing.assert_close(value, expected, atol=1e-13, rtol=1e-12)


def test_no_logits_of_all_positions_stay_alive_between_forward_and_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = heads(64)
    states, teacher_states = normal(40, 6, seed=24).float().requires_grad_(), normal(40, 9, seed=25).float()
    monkeypatch.setattr(logit_loss, "_kernel", lambda: None)
    saved: list[int] = []
    sizes: list[int] = []

    def chunk(mine: Tensor, his: Tensor) -> Tensor:
        sizes.append(len(mine))
        return logit_divergence(own.logits(mine), other.logits(his))

    monkeypatch.setattr(logit_loss, "ALIVE", 10 * 64)

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = by_positions(chunk, states, teacher_states, width=64)
    assert sizes == [10] * 4
    assert max(saved, default=0) < 10 * 64
    torch.autograd.grad(value.sum(), [states])
    assert sizes == [10] * 8


def test_heads_of_different_vocabularies_are_refused() -> None:
    own, _ = heads(50)
    _, other = heads(51)
    with pytest.raises(ModelError, match="50 tokens and the teacher's 51"):
        hidden_divergence(torch.zeros(2, 6), own, torch.zeros(2, 9), other)
    ids = torch.arange(50)
    assert hidden_divergence(torch.zeros(2, 6), own, torch.zeros(2, 9), other.restricted(ids)).shape == (2,)


@pytest.mark.parametrize("limit", [2**26, 2 * 50])
def test_log_probabilities_of_tokens_are_those_of_the_softmax(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logit_loss, "ALIVE", limit)
    head, _ = heads(dtype=torch.float64)
    states, tokens = normal(5, 6, seed=26), torch.tensor([0, 7, 49, 7, 3])
    logits = head.logits(states)
    whole = logits.log_softmax(-1)[torch.arange(5), tokens]
    torch.testing.assert_close(token_log_probs(states, head, tokens), whole)
    ids = torch.tensor([3, 7, 20])
    found = token_log_probs(states, head, tokens, ids=ids)
    inside = restricted(logits, ids).log_softmax(-1)[torch.arange(5), torch.tensor([0, 1, 0, 1, 0])]
    assert found.isnan().tolist() == [True, False, True, False, False]
    torch.testing.assert_close(found[[1, 3, 4]], inside[[1, 3, 4]])


def test_sums_of_micro_batches_add_up_to_the_sum_of_the_batch() -> None:
    values = normal(10, seed=27)
    counted = torch.tensor([True] * 7 + [False] * 3)
    values[8] = torch.nan
    parts = [summed(values[piece], counted[piece]) for piece in (slice(0, 4), slice(4, 10))]
    assert sum(int(part.count) for part in parts) == 7
    assert float(sum(part.total for part in parts)) == pytest.approx(float(values[:7].sum()))
    assert float(summed(values[:7]).mean) == pytest.approx(float(values[:7].mean()))


@pytest.mark.parametrize("loss", ["log_probs", "divergence"])
def test_a_half_precision_head_leaves_no_wide_copy_until_the_backward_pass(loss: str) -> None:
    torch.manual_seed(0)
    head = Head(torch.randn(300, 16).bfloat16())
    hidden = torch.randn(5, 16).bfloat16().requires_grad_()
    tokens, teacher = torch.arange(5), torch.randn(5, 16).bfloat16()

    def value(states: Tensor, weights: Head) -> Tensor:
        if loss == "log_probs":
            return token_log_probs(states, weights, tokens).sum()
        return hidden_divergence(states, weights, teacher, head).sum()

    saved: list[tuple[torch.dtype, tuple[int, ...]]] = []

    def note(tensor: Tensor) -> Tensor:
        saved.append((tensor.dtype, tuple(tensor.shape)))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        found = value(hidden, head)
    assert saved
    assert (torch.float32, (300, 16)) not in saved
    wide = hidden.detach().float().requires_grad_()
    expected = torch.autograd.grad(value(wide, Head(head.weight.float())), wide)[0]
    torch.testing.assert_close(torch.autograd.grad(found, hidden)[0], expected.bfloat16())
