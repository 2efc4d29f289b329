"""Ridge regression of a user on the history before each row, item vectors given: what static averages miss.

Most rows of a temporal test part are of users whom the training part hardly knows; their earlier events of
the test part are known when they come. This is the fold-in of a new user (Koren, Bell and Volinsky, 2009).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from behavior.runtime.compiled import compiled

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]


@compiled
def fold_in(
    begin: np.ndarray,
    stop: np.ndarray,
    item: np.ndarray,
    event_item: np.ndarray,
    residual: np.ndarray,
    vectors: np.ndarray,
    penalties: np.ndarray,
) -> np.ndarray:
    """`w . vectors[item]` of each row, w the ridge regression of its history's residuals on their item
    vectors.

    Rows of a sequence must follow each other, and their `stop` must not fall.

    Args:
        begin: [rows] where the row's sequence begins, among events.
        stop: [rows] where its history ends, exclusive.
        item: [rows] the candidate.
        event_item: [events] items.
        residual: [events] what is to be explained; NaN: the event says nothing.
        vectors: [items, dim].
        penalties: [dim] of the squares of w.

    Returns:
        [rows].
    """
    dim = vectors.shape[1]
    found = np.zeros(len(begin))
    gram = np.zeros((dim, dim))
    right = np.zeros(dim)
    factor = np.zeros((dim, dim))
    w = np.zeros(dim)
    place = -1
    for row in range(len(begin)):
        if row == 0 or begin[row] != begin[row - 1]:
            gram[:] = 0.0
            right[:] = 0.0
            place = begin[row]
        changed = row == 0 or begin[row] != begin[row - 1]
        while place < stop[row]:
            if not np.isnan(residual[place]):
                vector = vectors[event_item[place]]
                for i in range(dim):
                    right[i] += residual[place] * vector[i]
                    for j in range(i + 1):
                        gram[i, j] += vector[i] * vector[j]
                changed = True
            place += 1
        if changed:
            for i in range(dim):
                for j in range(i + 1):
                    total = gram[i, j] + (penalties[i] if i == j else 0.0)
                    for k in range(j):
                        total -= factor[i, k] * factor[j, k]
                    factor[i, j] = np.sqrt(total) if i == j else total / factor[j, j]
            for i in range(dim):
                total = right[i]
                for k in range(i):
                    total -= factor[i, k] * w[k]
                w[i] = total / factor[i, i]
            for i in range(dim - 1, -1, -1):
                total = w[i]
                for k in range(i + 1, dim):
                    total -= factor[k, i] * w[k]
                w[i] = total / factor[i, i]
        found[row] = np.dot(w, vectors[item[row]])
    return found
