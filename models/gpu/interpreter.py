"""Whether Triton's kernels are interpreted on the CPU, statement by statement: for tests."""

from __future__ import annotations

import os


def interpreted() -> bool:
    """Whether kernels may be given tensors of the CPU now."""
    return os.environ.get("TRITON_INTERPRET") == "1"


INTERPRETED = interpreted()
"""The same when this module was imported, with Triton and the kernels: what these are was decided then. On
the CPU there is no inline assembly, and tiles cost by their number, not by their size."""
