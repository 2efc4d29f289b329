"""Where the columns of a batch lie in its one buffer of bytes."""

from __future__ import annotations

import torch
from torch import Tensor

from models.data.columns import Columns

ALIGNMENT = 128
"""Bytes at whose multiples segments begin: GPUs load aligned memory faster, and kernels count on it."""
_INT64 = 8


def buffer_size(columns: Columns, tokens: int, sequences: int) -> int:
    """Bytes of the buffer of a batch: a multiple of `ALIGNMENT`."""
    of_tokens = sum(aligned(tokens * column.torch_dtype.itemsize) for column in columns)
    return of_tokens + aligned((sequences + 1) * _INT64) + aligned(sequences * _INT64)


def segments(
    buffer: Tensor, columns: Columns, tokens: int, sequences: int
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Views into a buffer, one after the other.

    Args:
        buffer: [`buffer_size`] uint8.
        columns: of tokens.
        tokens: of each column.
        sequences: of the batch.

    Returns:
        The columns by name, [tokens] of each one's dtype; offsets, [sequences + 1] int64; and row numbers of
        sequences, [sequences] int64.
    """
    typed: dict[torch.dtype, Tensor] = {torch.int64: buffer.view(torch.int64)}
    begin, values = 0, {}
    for column in columns:
        kind = column.torch_dtype
        size = kind.itemsize
        if kind not in typed:
            typed[kind] = buffer.view(kind)
        values[column.name] = typed[kind].narrow(0, begin // size, tokens)
        begin += aligned(tokens * size)
    whole, start = typed[torch.int64], begin // _INT64
    after = start + aligned((sequences + 1) * _INT64) // _INT64
    return values, whole.narrow(0, start, sequences + 1), whole.narrow(0, after, sequences)


def aligned(size: int) -> int:
    """The next multiple of `ALIGNMENT`."""
    return -(-size // ALIGNMENT) * ALIGNMENT
