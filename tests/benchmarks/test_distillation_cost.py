"""That the benchmark of distillers measures what the distillers run."""

from tests.benchmarks.distillation import METHODS, SMALLEST, measure


def test_every_method_takes_its_step() -> None:
    found = measure(SMALLEST, repeats=1)
    assert tuple(found) == METHODS
    assert all(seconds > 0 for seconds, _ in found.values())
