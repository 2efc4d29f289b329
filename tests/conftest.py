"""What holds for all tests."""

from __future__ import annotations

import os

# Before numpy and torch are imported, and for all processes that tests start. Workers are as many as cores, and
# threads beside them would only wait for each other; sums by one thread are the same on every machine too.
# Tests of threads ask for them.
for library in ("OMP", "MKL", "OPENBLAS"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
