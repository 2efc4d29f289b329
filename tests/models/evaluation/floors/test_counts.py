"""What floors count of all histories, against counting by hand."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior.cooccurrence import Histories
from behavior.shards.folder import open_shards
from models.data.loading import ShardSource
from models.data.loading.part import part_of
from models.evaluation.floors.counts import popularity_of, some_of, transitions
from models.evaluation.floors.names import Counts
from tests.models.shards import User, World, write_shards

FIRST = 2


def test_some_of_many_histories() -> None:
    """Users of every third row, whole, where three times as many events are there as may be."""
    lengths = np.array([3, 0, 2, 4, 1, 5])
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    histories = Histories(np.arange(15, dtype=np.int32), offsets, np.arange(6), 15)
    assert some_of(histories, 15) is histories
    some = some_of(histories, 6)
    assert some.item.tolist() == [0, 1, 2, 5, 6, 7, 8]
    assert (some.offsets.tolist(), some.row.tolist(), some.items) == ([0, 3, 7], [0, 3], 15)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("counts")


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=8), min_size=1, max_size=6), data=st.data()
)
@pytest.mark.parametrize("counts", ["train", "train+valid"])
def test_events_and_transitions_against_counting(
    scratch: Path, counts: Counts, rows: list[list[int]], data: st.DataObject
) -> None:
    cuts = [sorted(data.draw(st.tuples(*[st.integers(0, len(row))] * 2))) for row in rows]
    users = [User(row, *cut) for row, cut in zip(rows, cuts, strict=True)]
    shards = open_shards(write_shards(scratch / "data", users, World(num_items=5, files=min(2, len(users)))))
    source = ShardSource(shards)
    known = [row[: cut[counts != "train"]] for row, cut in zip(rows, cuts, strict=True)]
    expected = Counter(pair for row in known for pair in pairwise(row))
    table = transitions(part_of(source, counts))
    for last in range(FIRST + 5):
        begin, end = table.offsets[last : last + 2]
        found = dict(zip(table.follower[begin:end].tolist(), table.count[begin:end].tolist(), strict=True))
        assert found == {
            item - FIRST: count for (one, item), count in expected.items() if one == last and item >= FIRST
        }
    events = Counter(item for row in known for item in row)
    assert popularity_of(source, shards, counts).tolist() == [
        events[item] for item in range(FIRST, FIRST + 5)
    ]
