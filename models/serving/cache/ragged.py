"""Rows of different lengths, without a loop over them: on the host, or on a device, not waiting for it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
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


def in_room(offsets: Tensor, lengths: tuple[int, ...] | None, size: int, longest: int) -> Sequences:
    """Sequences whose lengths the host may not know.

    Args:
        offsets: [sequences + 1] where each starts.
        lengths: of each; None: they are not known.
        size: elements that there is room for.
        longest: none has more.
    """
    if lengths is None:
        return Sequences.unread(offsets, tokens=size, longest=longest)
    return Sequences(offsets, lengths)


def on_device(values: Ints, device: torch.device) -> Tensor:
    """An int64 tensor of them."""
    return torch.from_numpy(np.array(values, np.int64)).to(device, non_blocking=True)


class Spread(NamedTuple):
    """Where each element of a flat tensor belongs, whose rows have lengths that only the device may know."""

    offsets: Tensor
    """[rows + 1] where each row starts."""
    row: Tensor
    """[elements] of each; past the last row, the last one."""
    place: Tensor
    """[elements] in its row."""
    inside: Tensor
    """[elements] whether it belongs to a row."""


def spread(counts: Tensor, size: int) -> Spread:
    """The elements of rows of so many each.

    >>> spread(torch.tensor([2, 0, 1]), 4)[1:3]
    (tensor([0, 0, 2, 2]), tensor([0, 1, 0, 1]))

    Args:
        counts: [rows] of each.
        size: elements that there is room for, as many as rows have together at least.
    """
    offsets = F.pad(counts.cumsum(0), (1, 0))
    number = torch.arange(size, device=counts.device)
    row = torch.searchsorted(offsets[1:], number, right=True).clamp(max=max(len(counts) - 1, 0))
    return Spread(offsets, row, number - offsets[row], number < offsets[-1])
