"""Rows of different lengths, without a loop over them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.attention.sequences import Sequences

Ints = npt.NDArray[np.int64]


def offsets_of(counts: Ints) -> Ints:
    """[rows + 1] where each row starts in a flat array, then its size."""
    return np.concatenate(([0], np.cumsum(counts)))


def counted_up(first: Ints, counts: Ints) -> Ints:
    """`first[r], first[r] + 1, ..`, `counts[r]` numbers of each row, one row after the other.

    >>> counted_up(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist()
    [5, 6, 9, 10, 11]
    """
    return np.arange(counts.sum()) + np.repeat(first - offsets_of(counts)[:-1], counts)


def sequences_of(counts: Ints, device: torch.device) -> Sequences:
    """Sequences of so many tokens each."""
    return Sequences(on_device(offsets_of(counts), device), tuple(counts.tolist()))


def on_device(values: Ints, device: torch.device) -> Tensor:
    """An int64 tensor of them."""
    return torch.from_numpy(np.array(values, np.int64)).to(device, non_blocking=True)
