"""The top items of queries, exactly, a range of items at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from behavior.errors import UserError
from models.data.sequences import BoolArray
from models.evaluation.scores import CELLS, Cells, Pairs, Scores, item_ranges

NONE = -1
"""Stands where fewer items are left than are asked for."""


def top_items(
    scores: Scores,
    rows: int,
    num_items: int,
    k: int,
    *,
    excluded: Pairs | None = None,
    allowed: BoolArray | None = None,
    cells: int = CELLS,
) -> tuple[Tensor, Tensor]:
    """The `k` items that score highest for each query, in descending order; ties by item order, lower first.

    The scores are those that evaluations rank by. They are made for ranges of items, and no more of them than
    `cells` at once.

    Args:
        scores: of all known items.
        rows: queries of the scores.
        num_items: known items.
        k: items a query, at least 1.
        excluded: rows and items that are left out, both [pairs]; pairs may repeat.
        allowed: [known items] whether an item may be chosen; None: all may.
        cells: scores made at once, at most, but for a single item's.

    Returns:
        items: [rows, k] int64, numbered from the first known one; `NONE` past the last that is left.
        scores: [rows, k], in the dtype of the scores; minus infinity there.

    Raises:
        UserError: a score that would be among them is not a number.
    """
    device = scores.device
    ranges = item_ranges(num_items, cells // max(1, rows))
    left_out = None if excluded is None else Cells(*excluded, device, len(ranges) > 1)
    may = None if allowed is None else torch.from_numpy(allowed).to(device)
    best: tuple[Tensor, Tensor] | None = None
    for first, stop, fresh in ranges:
        if allowed is not None and not allowed[fresh:stop].any():
            continue
        found = scores.columns(first, stop)[:, fresh - first :]
        if may is not None:
            found = found.masked_fill(~may[fresh:stop], float("-inf"))
        if left_out is not None:
            found = found.index_put(left_out.between(fresh, stop, fresh), found.new_tensor(float("-inf")))
        here = _top(found, k)
        item = here[0] + fresh
        best = (item, here[1]) if best is None else _merged(best, (item, here[1]), k)
    if best is None:
        best = torch.empty(rows, 0, dtype=torch.int64), torch.empty(rows, 0)
    return checked(*filled(*best, k))


def _top(found: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """[rows, at most k] columns and scores, ties by column."""
    if found.shape[1] <= k:
        score, item = found.sort(dim=1, descending=True, stable=True)
        return item, score
    # Which of several equal scores a top-k takes is not said: whole rows are sorted where that matters.
    score, item = found.topk(k + 1, dim=1)
    tied = (score[:, k - 1] == score[:, k]) & (score[:, k] > float("-inf"))
    item, order = item[:, :k].sort(dim=1)
    score, order = score[:, :k].gather(1, order).sort(dim=1, descending=True, stable=True)
    item = item.gather(1, order)
    rows = tied.nonzero().squeeze(1)
    if len(rows):
        of_tied, order = found[rows].sort(dim=1, descending=True, stable=True)
        item[rows], score[rows] = order[:, :k], of_tied[:, :k]
    return item, score


def _merged(best: tuple[Tensor, Tensor], more: tuple[Tensor, Tensor], k: int) -> tuple[Tensor, Tensor]:
    """The best of two, of which the first has the lower items."""
    item, score = (torch.cat(both, dim=1) for both in zip(best, more, strict=True))
    score, order = score.sort(dim=1, descending=True, stable=True)
    return item.gather(1, order)[:, :k], score[:, :k]


def filled(item: Tensor, score: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """[rows, k] of what may be fewer, `NONE` where nothing is left."""
    missing = k - item.shape[1]
    if missing > 0:
        item = torch.nn.functional.pad(item, (0, missing), value=NONE)
        score = torch.nn.functional.pad(score, (0, missing), value=float("-inf"))
    return item.masked_fill(score == float("-inf"), NONE), score


def checked(item: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
    """The same, where all scores are numbers.

    Raises:
        UserError: one is not.
    """
    if bool(score.isnan().any()):  # they count as highest: if there are any, they are here
        raise UserError(
            "the model's scores are not numbers",
            fix="take another checkpoint, or train again: its loss failed",
        )
    return item, score
