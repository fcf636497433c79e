"""Numbers as readers see them."""

from __future__ import annotations

import math

import pytest

from subl.artifacts import Measure
from subl.report.formatting import interval, number, size


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.7049, "+0.705"),
        (-0.25, "−0.250"),
        (0.0, "+0.000"),
        (1e-13, "+0.000"),
        (7.53e-6, "+7.53e−06"),
        (123456.0, "+1.23e+05"),
        (math.nan, "–"),
    ],
)
def test_a_number_has_three_decimals_or_three_digits(value: float, shown: str) -> None:
    assert number(value, signed=True) == shown


@pytest.mark.parametrize(
    ("measure", "shown"),
    [
        (Measure(0.0011, -0.00018, 0.0012), "+0.001 [−0.000, +0.001]"),
        (Measure(-0.0001, -0.02, 0.02), "−0.000 [−0.020, +0.020]"),
        (Measure(1e-5, -2e-5, 4e-5), "+1e−05 [−2e−05, +4e−05]"),
        (Measure(7.53e-6), "+7.53e−06"),
    ],
)
def test_a_value_and_its_interval_have_the_same_decimals(measure: Measure, shown: str) -> None:
    assert size(measure) == shown


def test_an_interval_without_finite_ends_is_left_out() -> None:
    assert interval(Measure(0.5)) == ""
    assert interval(Measure(0.5, -math.inf, 1.0)) == ""
