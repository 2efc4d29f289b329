"""What the kernels are compiled for: one `tl.constexpr` argument (`silu.kernel_arguments` says why)."""

from __future__ import annotations

from typing import NamedTuple

HIDDEN = -1e30
"""A score that no weight comes of: SiLU of it is 0, and softmax's first peak (`FIRST_PEAK`) is far above."""
FIRST_PEAK = -1e29
BLOCK = 64
"""Tokens that share bounds of time."""
ROOM = 128
"""Rows of a number a token are as long as a multiple of this: no tile of keys reaches past them."""


class Constants(NamedTuple):
    """Of one kind of calls."""

    QUERIES: int
    """Rows of a tile."""
    KEYS: int
    QK_DIM: int
    QK_WIDTH: int
    """QK_DIM rounded up to a power of two, 16 at least; zeros in between."""
    V_DIM: int
    V_WIDTH: int
    HEADS: int
    K_STRIDE: int
    """From token to token in the pages of keys."""
    V_STRIDE: int
    PAGE: int
    """Tokens of a page."""
    CONTEXT: int
    """Tokens at the front that all have logical position 0 and see each other."""
    WINDOWED: bool
    SOFTMAX: bool
    """Or else SiLU."""
    POWER: bool
    """Whether a decay is a power of the time difference, or else an exponential."""
    FAST: bool
    """Whether tanh is one operation of the special-function unit, wrong by 2^-11 at most."""
    PRECISION: str
    """Of products of float32."""
    FACTOR: float
    """Of a bias: scores are kept halved for SiLU, and as powers of two for softmax."""
    CANDIDATES: bool
    """Whether there are any."""
    KEYS_AHEAD: int
    """Iterations by which tiles of keys are loaded ahead; 0 of both: as `num_stages` says."""
    VALUES_AHEAD: int
    ACTIVATE: bool
    """Whether SiLU of queries, and of candidates' own keys and values, is still to be taken."""
    PARTS: bool
    """Whether the keys of a tile of queries are shared by several programs."""
