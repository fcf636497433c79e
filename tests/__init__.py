"""What every process of the tests has in common."""

import os
import sys
from pathlib import Path

# Tests run side by side, and with several threads equal runs can differ in the last bit.
os.environ["OMP_NUM_THREADS"] = "1"

if sys.dont_write_bytecode:
    # Otherwise every process would compile all that it imports: trl takes 18 s of processor time then instead of 6 s.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache/bytecode")
    sys.dont_write_bytecode = False
