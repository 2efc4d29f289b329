"""Scores of items from what usually follows the last events of a history."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from behavior.cooccurrence.kernels import last_events


def history_weights(
    item: npt.NDArray[np.int32],
    begin: npt.NDArray[np.int64],
    stop: npt.NDArray[np.int64],
    items: int,
    *,
    events: int = 12,
    decay: float = 0.6,
) -> Any:
    """What the last events of histories weigh: the newest 1, each older one `decay` times the one after it.

    With a table C the scores of all items are `history_weights(...) @ C.matrix`, sparse:
    score[i] = sum over the last events j of decay^age_j C[item_j, i].

    Args:
        item: [events] numbers of items, -1 unknown: they age others, and have no weight.
        begin, stop: [histories] where each begins and ends in `item`.
        items: how many items there are.
        events: how many events count.
        decay: from 0 to 1.

    Returns:
        [histories, items] float64 `csr_array`; an item that comes twice has the sum.
    """
    row, column, age = last_events(item, begin, stop, events)
    weights = (np.power(decay, age), (row, column))
    return sparse.coo_array(weights, shape=(len(begin), items)).tocsr()
