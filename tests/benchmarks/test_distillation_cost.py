"""That the benchmark of distillers measures what the distillers run."""

import pytest

from tests.benchmarks.distillation import FULL, METHODS, SMALLEST, floor, measure


def test_every_method_takes_its_updates() -> None:
    found = measure(SMALLEST, updates=1, rounds=1)
    assert tuple(found) == tuple(METHODS)
    assert all(seconds > 0 for seconds, _ in found.values())


def test_the_floor_is_that_of_the_full_size_pair() -> None:
    # One forward pass of 7.0 billion weights beside three of 2.0 billion and half of a head of 0.5.
    assert floor("shd", FULL) == pytest.approx(1 + 6.98 / (3 * (1.98 + 0.26)), abs=0.01)
    assert floor("shd, cached", FULL) == 1
