"""The order of the tests."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the long tests first, so that none of them is left over for one worker while the others idle."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
