"""How groups are cut into pieces, and what the kernel is given."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from models.gpu.launcher import launch
from models.gpu.row_sums.groups import Groups
from models.gpu.row_sums.sums import group_sums_kernel
from models.gpu.tile_shape import TileShape

PIECE = 32
"""Gradients that one program sums: the most popular item of a step has a thousand."""
_AT_ONCE = 16
_SHAPE = TileShape(1, _AT_ONCE, 4, 1)


def sum_groups(gradients: Tensor, groups: Groups) -> Tensor:
    """See `models.gpu.row_sums.sum_groups`."""
    n = len(gradients)
    pieces, starts, number = _pieces(gradients, groups, n)
    return _launch(pieces, None, starts, number, n, groups.rows, filled=True)


def sum_into(out: Tensor, gradients: Tensor, groups: Groups, before: int) -> Tensor:
    """Write the sums of groups to rows of `out`, that of row r to row `r - before`; none of row 0."""
    most = min(len(out) + before, len(gradients))
    pieces, starts, number = _pieces(gradients, groups, most)
    return _launch(pieces, None, starts, number, most, groups.rows, filled=False, out=out, before=before)


def _pieces(gradients: Tensor, groups: Groups, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """[pieces, dim] their sums; [n + 1] the piece at which each group begins; [1] the number of groups, of
    which there are no more than `most`."""
    order, group, begins, _ = groups
    n = len(order)
    places = torch.arange(n, device=order.device)
    starts = _starts(begins, group, places, n)
    cuts = (places - starts.index_select(0, group)) % PIECE == 0
    piece = cuts.cumsum(0) - 1
    parts = min(n, n // PIECE + most)  # a group has one that is no whole one
    of_pieces = _starts(cuts, piece, places, n)
    pieces = _launch(gradients, order, of_pieces, piece[-1:] + 1, parts, filled=False)
    return pieces, _starts(begins, group, piece, piece[-1:] + 1), group[-1:] + 1


def _starts(begins: Tensor, part: Tensor, places: Tensor, end: Tensor | int) -> Tensor:
    """[n + 1] the place where each part begins, and the end after the last.

    Args:
        begins: [n] bool, where a part begins.
        part: [n] int64 which it is.
        places: [n] int64.
        end: one past the last place.
    """
    n = len(part)
    starts = torch.empty(n + 1, dtype=torch.int64, device=part.device)
    starts.copy_(end) if isinstance(end, Tensor) else starts.fill_(end)
    # Others than the first of a part write to a place of their own, after the last.
    return starts.scatter_(0, torch.where(begins, part, n), places)


def _launch(
    gradients: Tensor,
    order: Tensor | None,
    starts: Tensor,
    number: Tensor,
    most: int,
    rows: Tensor | None = None,
    *,
    filled: bool,
    out: Tensor | None = None,
    before: int | None = None,
) -> Tensor:
    """Sums of parts.

    Args:
        gradients: [n, dim].
        order: [n] places of gradients, part by part; None: as they are.
        starts: [n + 1] where each part begins in `order`.
        number: [1] of parts.
        most: there are no more of them.
        rows: [n] row of each part, whose sum is left out where that is 0; None: none is.
        filled: whether there are to be zeros after the last part.
        out: where sums go; None: to where their parts are.
        before: subtracted from the row of a part, for the row of `out`; None: it is the part's number.
    """
    gradients = gradients.contiguous()
    width = gradients.shape[1]
    sums = gradients.new_empty(most, width) if out is None else out
    arguments = {
        "gradients": gradients, "order": order, "starts": starts, "rows": rows, "number": number,
        "sums": sums, "WIDTH": width, "DIM": triton.next_power_of_2(width), "AT_ONCE": _AT_ONCE,
        "FILLED": filled, "BEFORE": before,
    }  # fmt: skip
    launch(group_sums_kernel, (most, 1), _SHAPE, arguments)
    return sums
