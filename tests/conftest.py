"""One thread per process: tests run side by side, and with several threads equal runs can differ in the last bit."""

import os

import pytest

os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the long tests first, so that none of them is left over for one worker while the others idle."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
