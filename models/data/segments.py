"""Where the columns of a batch lie in its one buffer of bytes."""

from __future__ import annotations

import torch
from torch import Tensor

from models.data.columns import Columns

ALIGNMENT = 128
"""Bytes at whose multiples segments begin: GPUs load aligned memory faster, and kernels count on it."""
_INT64 = 8


def buffer_size(columns: Columns, events: int, sequences: int) -> int:
    """Bytes of the buffer of a batch: a multiple of `ALIGNMENT`."""
    of_events = sum(len(names) * aligned(events * dtype.itemsize) for dtype, names in columns.runs)
    return of_events + aligned((sequences + 1) * _INT64) + aligned(sequences * _INT64)


def segments(
    buffer: Tensor, columns: Columns, events: int, sequences: int
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Views into a buffer, one after the other.

    Args:
        buffer: [`buffer_size`] uint8.
        columns: of events.
        events: of each column.
        sequences: of the batch.

    Returns:
        The columns by name, [events] of each one's dtype; offsets, [sequences + 1] int64; and row numbers of
        sequences, [sequences] int64.
    """
    values: dict[str, Tensor] = {}
    begin = buffer.storage_offset()  # as_strided counts from the start of the storage
    whole = buffer.view(torch.int64)
    for dtype, names in columns.runs:
        # All columns of a run in a few calls: a small batch is made in a hundred microseconds.
        stride, size = aligned(events * dtype.itemsize), dtype.itemsize
        typed = whole if dtype == torch.int64 else buffer.view(dtype)
        rows = typed.as_strided((len(names), events), (stride // size, 1), begin // size)
        values.update(zip(names, rows.unbind(), strict=True))
        begin += len(names) * stride
    after = begin + aligned((sequences + 1) * _INT64)
    offsets = whole.as_strided((sequences + 1,), (1,), begin // _INT64)
    return values, offsets, whole.as_strided((sequences,), (1,), after // _INT64)


def aligned(size: int) -> int:
    """The next multiple of `ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT
