"""The order of the tests, and no limits of time on examples: other processes take theirs."""

import pytest
from hypothesis import settings

settings.register_profile("tests", settings(), deadline=None)
settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the long tests first, so that none of them is left over for one worker while the others idle."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
