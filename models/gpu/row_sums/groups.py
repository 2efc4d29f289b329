"""Look-ups of a table in order of the rows that they found."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Groups(NamedTuple):
    """Look-ups in order of the rows that they found."""

    order: Tensor
    """[n] int64 places of look-ups, group by group, and in a group in their own order."""
    group: Tensor
    """[n] int64 the group of each of these, from 0 on."""
    begins: Tensor
    """[n] bool, whether it is the first of its group."""
    rows: Tensor
    """[n] int64 the row of each group, 0 after the last."""


def grouped(rows: Tensor, most: int) -> Groups:
    """Look-ups by row; nothing waits for the device.

    Args:
        rows: [n] int64, from 0 on; n at least 1.
        most: no row is as large.
    """
    # Sorting takes as many passes as keys have bytes.
    keys = rows.int() if most <= 1 << 31 else rows
    ordered, order = keys.sort(stable=True)
    begins = torch.ones_like(ordered, dtype=torch.bool)
    torch.ne(ordered[1:], ordered[:-1], out=begins[1:])
    group = begins.cumsum(0) - 1
    return Groups(order, group, begins, torch.zeros_like(rows).scatter_(0, group, ordered.long()))
