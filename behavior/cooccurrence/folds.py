"""Which fold a user is in: the same everywhere, from the number of the sequence alone."""

from __future__ import annotations

from typing import Any


def fold_of(row: Any, folds: int) -> Any:
    """The folds of sequences, from 0, by their row numbers in the data set.

    Multiplicative hashing of 32 bits (Knuth, volume 3, 6.4) in operations that NumPy arrays and torch's
    tensors share, so that devices find the same folds as the host.

    Args:
        row: an int64 array or tensor.
        folds: at most 65,536.
    """
    return (((row & 0x7FFFFFFF) * 2654435761 & 0xFFFFFFFF) >> 16) % folds
