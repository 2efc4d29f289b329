"""Rows that are added to the vectors of tokens, and rows of them that are taken out."""

from __future__ import annotations

import torch
from torch import Tensor

from models.layers.dropout import Dropout
from models.layers.kernels import fits_rows
from models.layers.look_up import look_up


def add_rows(x: Tensor, table: Tensor, place: Tensor, scale: float, dropout: Dropout) -> Tensor:
    """`dropout(scale * x + table[place])`: on a GPU in one pass, and in another for the gradients.

    Where kernels run it can be differentiated once.

    Args:
        x: [n, dim].
        table: [rows, dim].
        place: [n] int64 rows.
        scale: of x.
        dropout: of the sum.

    Returns:
        [n, dim].
    """
    if not (_fits(x) and table.dtype == torch.float32):
        total: Tensor = dropout(x * scale + look_up(place, table))
        return total
    # Not at the top of the file: without a GPU there need be no triton.
    from models.layers.kernels.token_function import AddRows

    keep = dropout.draw(*x.shape, device=x.device)
    out: Tensor = AddRows.apply(x, table, place, keep, scale, dropout.scale)
    return out


def take_rows(x: Tensor, rows: Tensor, counts: Tensor | None = None) -> Tensor:
    """`x.index_select(0, rows)`, whose gradient puts rows back in one pass where kernels run.

    Args:
        x: [n, dim].
        rows: [taken] int64, of those that count each at most once.
        counts: [taken] bool, false for those that get no gradients but zeros; None: all count.

    Returns:
        [taken, dim].
    """
    if not _fits(x):
        return x.index_select(0, rows)
    from models.layers.kernels.token_function import TakeRows

    out: Tensor = TakeRows.apply(x, rows, counts)
    return out


def _fits(x: Tensor) -> bool:
    return x.ndim == 2 and fits_rows(x, (torch.float32,))
