"""Events of a partition become whole histories, some users at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from pipelines.scoring.scorer import REJECTED

WINDOW_USERS = 4096
WINDOW_EVENTS = 2_000_000


def windows_of_users(
    events: pa.Table, users: int = WINDOW_USERS, most: int = WINDOW_EVENTS
) -> tuple[Iterator[pa.RecordBatch], int]:
    """Whole histories of users, in order of their first rows.

    Args:
        events: `user`, `entity` (-1, or the number of the row that is a user of its own), `item`, and more;
            in the order of the input.
        users: of a batch, at most.
        most: events of a batch, but for those of a single user.

    Returns:
        Batches: `number`, the user's place in it; `user`; the other columns but `entity`. Rows that were
        rejected are left out. And how many users have no other rows.
    """
    owner = _owners(events)
    items = events["item"].to_numpy()
    alive = np.bincount(owner, items != REJECTED) > 0
    rejected = int((~alive).sum())
    kept = np.flatnonzero(items != REJECTED)
    kept = kept[np.argsort(owner[kept], kind="stable")]
    numbers = np.cumsum(alive) - 1
    table = events.drop_columns(["entity"]).take(pa.array(kept))
    return _cut(table, numbers[owner[kept]], users, most), rejected


def _owners(events: pa.Table) -> np.ndarray:
    """[events] which user each is of, in order of their first rows."""
    coded = events["user"].combine_chunks().dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    entity = events["entity"].to_numpy()
    if not (entity >= 0).any():
        return codes
    pairs = np.stack((np.where(entity >= 0, -1, codes), entity), 1)
    _, first, inverse = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int64)
    place[np.argsort(first, kind="stable")] = np.arange(len(first))
    return place[inverse.reshape(-1)]


def _cut(table: pa.Table, owner: np.ndarray, users: int, most: int) -> Iterator[pa.RecordBatch]:
    count = int(owner[-1]) + 1 if len(owner) else 0
    starts = np.searchsorted(owner, np.arange(count + 1))
    first = 0
    while first < count:
        fits = int(np.searchsorted(starts, starts[first] + most, side="right")) - 1
        stop = min(max(fits, first + 1), first + users, count)
        rows = slice(int(starts[first]), int(starts[stop]))
        part = table.slice(rows.start, rows.stop - rows.start).combine_chunks()
        part = part.add_column(0, "number", pa.array(owner[rows] - first))
        yield part.to_batches()[0]
        first = stop
