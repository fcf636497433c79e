"""What every process of the tests has in common."""

import os
import sys
from pathlib import Path

import pytest

# Tests run side by side, and with several threads equal runs can differ in the last bit.
os.environ["OMP_NUM_THREADS"] = "1"

if sys.dont_write_bytecode:
    # Otherwise every process would compile all that it imports: trl takes 18 s of processor time then instead of 6 s.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache/bytecode")
    sys.dont_write_bytecode = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the long tests first, so that none of them is left over for one worker while the others idle."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
