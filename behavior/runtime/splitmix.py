"""Random numbers that follow from what they are for alone: SplitMix64 (Steele, Lea and Flood 2014).

The i-th number of the stream of a key is `mix(key + i * GAMMA)`.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from behavior.runtime.compiled import compiled

GAMMA = np.uint64(0x9E3779B97F4A7C15)
"""The step from a state to the next."""
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)

Words = TypeVar("Words", np.uint64, npt.NDArray[np.uint64])


def mixed(words: Words) -> Words:
    """SplitMix64's finalizer: a bijection of 64 bits; each bit of the input changes half of the output."""
    words = (words ^ (words >> np.uint64(30))) * _FIRST
    words = (words ^ (words >> np.uint64(27))) * _SECOND
    return words ^ (words >> np.uint64(31))


mix = compiled(mixed)
"""`mixed`, for compiled loops."""
