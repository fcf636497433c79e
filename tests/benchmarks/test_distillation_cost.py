"""That the benchmark of distillers measures what the distillers run."""

import pytest

from tests.benchmarks.distillation import FULL, METHODS, SMALLEST, Cost, floor, measure


def test_every_method_takes_its_updates() -> None:
    found = measure(SMALLEST, updates=1, rounds=1)
    assert tuple(found) == tuple(METHODS)
    assert all(cost.seconds[0] > 0 for cost in found.values())


def test_ratios_are_within_rounds() -> None:
    slow = Cost((2.2, 4.2, 2.0, 8.4), 0.0), Cost((2.0, 4.0, 2.0, 8.0), 0.0)
    ratio, low, high = slow[0].over(slow[1])
    assert ratio == pytest.approx(1.05)
    assert 1.0 <= low < ratio < high <= 1.1


def test_the_floor_is_that_of_the_full_size_pair() -> None:
    # One forward pass of 7.0 billion weights beside three of 2.0 billion and half of a head of 0.5.
    assert floor("shd", FULL) == pytest.approx(1 + 6.98 / (3 * (1.98 + 0.26)), abs=0.01)
    assert floor("shd, cached", FULL) == 1
