"""Published files: what co-occurrence alone reaches on them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from behavior.cooccurrence import CooccurrenceConfig, Histories, count_cooccurrence, history_weights

DATA = os.environ.get("LRM_DATA")


@pytest.mark.skipif(not DATA, reason="LRM_DATA is not set: the folder with amazon/")
@pytest.mark.parametrize(
    ("file", "backward", "expected"),
    [("Beauty.txt", 0.7, (0.0796, 0.0482)), ("Toys_and_Games.txt", 0.0, (0.0930, 0.0607))],
)
def test_amazon(file: str, backward: float, expected: tuple[float, float]) -> None:
    """HR@10 and NDCG@10, leave-one-out, seen items removed, counted on all but the last two events."""
    lines = Path(str(DATA), "amazon", file).read_text().splitlines()
    rows = [np.array(line.split()[1:], np.int32) for line in lines]
    items = int(max(row.max() for row in rows)) + 1
    training = Histories(
        item=np.concatenate([row[:-2] for row in rows]),
        offsets=np.cumsum([0, *(len(row) - 2 for row in rows)]),
        row=np.arange(len(rows)),
        items=items,
    )
    table = count_cooccurrence(training, CooccurrenceConfig(backward=backward))
    offsets = np.cumsum([0, *map(len, rows)])
    weights = history_weights(np.concatenate(rows), offsets[:-1], offsets[1:] - 1, items)
    scores = (weights @ table.matrix).tocsr()
    hits, gains = 0, 0.0
    for user, row in enumerate(rows):
        own = slice(scores.indptr[user], scores.indptr[user + 1])
        score = dict(zip(scores.indices[own].tolist(), scores.data[own].tolist(), strict=True))
        for seen in row[:-1].tolist():
            score.pop(seen, None)
        if (target := int(row[-1])) in score:
            rank = sum(other >= score[target] for other in score.values())
            hits += rank <= 10
            gains += (rank <= 10) / np.log2(rank + 1)
    assert (hits / len(rows), gains / len(rows)) == pytest.approx(expected, abs=1e-4)
