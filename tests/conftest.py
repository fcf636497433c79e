"""One thread per process: tests run side by side, and with several threads equal runs can differ in the last bit."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
