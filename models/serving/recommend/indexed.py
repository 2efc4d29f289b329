"""The top items of queries by an index: what it finds, and what few items have besides, scored exactly."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.data.sequences import BoolArray, Int64Array
from models.evaluation.held_scores import HeldScores
from models.evaluation.scores import CELLS, Pairs
from models.evaluation.transfer import to_device
from models.serving.recommend.index import ItemIndex
from models.serving.recommend.top import NONE, checked, filled, top_items


def indexed_top_items(
    scores: HeldScores,
    index: ItemIndex,
    k: int,
    *,
    excluded: Pairs | None = None,
    allowed: BoolArray | None = None,
    cells: int = CELLS,
) -> tuple[Tensor, Tensor]:
    """As `models.serving.recommend.top.top_items`, but that the index may have missed items.

    The index is asked for `k` items more than the query has items that are left out, or have history or jump
    mass besides: so nothing that the searched clusters hold is lost to these. Items with mass are candidates
    in any case. Candidates are scored as all items are, mass included. Where the searched clusters hold less
    than `k` items that may be chosen, all are scored.

    Args:
        scores: of all known items; without trends.
        index: of the same item vectors.
        k: items a query, at least 1.
        excluded: rows and items that are left out.
        allowed: [known items] whether an item may be chosen.
        cells: numbers of gathered vectors at once, at most, but for a single query's.

    Returns:
        See `top_items`.
    """
    rows, left = len(scores.query), index.items if allowed is None else int(allowed.sum())
    apart, more = _keys(excluded, index.items), _keys(_massive(scores), index.items)
    special = np.bincount(np.unique(np.concatenate([apart, more])) // index.items, minlength=rows)
    count = min(left, k + int(special.max(initial=0)))
    found = index.nearest(scores.query, count, allowed)
    candidates = torch.cat([found, _in_rows(more, index.items, rows)], dim=1).sort(dim=1).values
    candidates[:, 1:].masked_fill_(candidates[:, 1:] == candidates[:, :-1], NONE)
    candidates = candidates.sort(dim=1).values
    logits = _scored(scores, candidates.to(scores.device), more, index.items, cells)
    out = candidates == NONE
    if allowed is not None:
        out |= ~torch.from_numpy(allowed)[candidates]
    if len(apart):
        keys = candidates + index.items * torch.arange(rows)[:, None]
        out |= torch.from_numpy(np.isin(keys.numpy(), apart))
    logits = logits.masked_fill(out.to(logits.device), float("-inf"))
    # Ties by item: candidates are in order of items.
    score, order = logits.sort(dim=1, descending=True, stable=True)
    item = candidates.to(order.device).gather(1, order)[:, :k]
    item, score = checked(*filled(item, score[:, :k], k))
    exhausted = (found == NONE).any(dim=1) & (item == NONE).any(dim=1).cpu()
    short = exhausted.nonzero().squeeze(1)
    if len(short):
        exact = top_items(scores, rows, index.items, k, excluded=excluded, allowed=allowed)
        here = short.to(item.device)
        item[here], score[here] = exact[0][here], exact[1][here].to(score.dtype)
    return item, score


def recall(found: Tensor, exact: Tensor) -> tuple[float, int]:
    """The sum over rows of the share of the exact top items that was found, and the rows that have any.

    Args:
        found: [rows, k] items, `NONE` where there are no more.
        exact: [rows, k] the same of the exact ones.
    """
    hits = ((found[:, :, None] == exact[:, None, :]) & (exact != NONE)[:, None, :]).any(dim=1).sum(dim=1)
    there = (exact != NONE).sum(dim=1)
    return float((hits[there > 0] / there[there > 0]).double().sum()), int((there > 0).sum())


def _massive(scores: HeldScores) -> Pairs | None:
    return None if scores.mass is None else (scores.mass.rows, scores.mass.items)


def _keys(pairs: Pairs | None, items: int) -> Int64Array:
    """[pairs] one number for row and item each."""
    return np.empty(0, np.int64) if pairs is None else pairs[0] * items + pairs[1]


def _in_rows(keys: Int64Array, items: int, rows: int) -> Tensor:
    """[rows, most] the items of each row, filled up with `NONE`."""
    keys = np.unique(keys)
    row, item = np.divmod(keys, items)
    counts = np.bincount(row, minlength=rows)
    place = np.arange(len(keys)) - np.repeat(np.cumsum(counts) - counts, counts)
    found = np.full((rows, int(counts.max(initial=0))), NONE)
    found[row, place] = item
    return torch.from_numpy(found)


def _scored(scores: HeldScores, candidates: Tensor, more: Int64Array, items: int, cells: int) -> Tensor:
    """[rows, candidates] float32 scores, mass included; of `NONE` those of any item."""
    size = max(1, cells // max(1, candidates.shape[1] * scores.query.shape[1]))
    parts = [
        torch.einsum("rd,rcd->rc", scores.query[first : first + size], scores.items[some.clamp(min=0)])
        for first, some in ((n * size, part) for n, part in enumerate(candidates.split(size)))
    ]
    logits = torch.cat(parts)
    if scores.mass is None or not len(more):
        return logits
    order = np.argsort(more)
    known = to_device(more[order], logits.device)
    mass = scores.mass.mass[to_device(order, logits.device)].to(logits.dtype)
    keys = candidates + items * torch.arange(len(candidates), device=logits.device)[:, None]
    place = torch.searchsorted(known, keys).clamp(max=len(known) - 1)
    has = (known[place] == keys) & (candidates != NONE)
    return torch.where(has, torch.logaddexp(logits, mass[place]), logits)
