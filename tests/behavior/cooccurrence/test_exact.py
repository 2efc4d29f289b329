"""Tables that any one user's own pairs can be subtracted from, against sums over single pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from behavior.cooccurrence import ExactTables, Histories, PairWeights, count_exact
from behavior.cooccurrence.directions import Direction
from tests.behavior.cooccurrence.exact_oracle import Log, counted

ITEMS, WINDOW, SECONDS = 6, 4, 50
TABLES: tuple[Direction, ...] = ("both", "forward", "backward", "session")


def some_log(seed: int, users: int = 9) -> Log:
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 8, users).tolist()
    return [
        (random.integers(-1, ITEMS - 1, length).tolist(), np.sort(random.integers(0, 120, length)).tolist())
        for length in lengths  # the last item never occurs
    ]


def as_histories(log: Log, rows: Sequence[int] | None = None) -> tuple[Histories, np.ndarray]:
    lengths = [len(items) for items, _ in log]
    histories = Histories(
        item=np.array([item for items, _ in log for item in items], np.int32),
        offsets=np.cumsum([0, *lengths]),
        row=np.array(range(len(log)) if rows is None else rows, np.int64),
        items=ITEMS,
    )
    return histories, np.array([time for _, times in log for time in times], np.int64)


def dense(tables: ExactTables, number: int) -> dict[tuple[int, int], float]:
    source = np.repeat(np.arange(ITEMS), np.diff(tables.offsets)).tolist()
    pairs = zip(source, tables.follower.tolist(), tables.count[number].tolist(), strict=True)
    return {(item, other): count for item, other, count in pairs if count}


def own(tables: ExactTables, number: int, row: int) -> dict[tuple[int, int], float]:
    found = {}
    for place, key in enumerate(tables.own_row.tolist()):
        if key // ITEMS == row:
            for pair in range(tables.own_offsets[place], tables.own_offsets[place + 1]):
                follower = int(tables.follower[tables.own_place[pair]])
                found[key % ITEMS, follower] = float(tables.own_count[number, pair])
    return {pair: count for pair, count in found.items() if count}


@pytest.mark.parametrize("shuffled", [False, True])
def test_counts_are_sums_over_pairs_and_over_users(shuffled: bool) -> None:
    log = some_log(1)
    rows = np.random.default_rng(0).permutation(len(log)).tolist() if shuffled else None
    histories, times = as_histories(log, rows)
    weights = PairWeights(TABLES, window=WINDOW, backward=0.25, session_seconds=SECONDS)
    tables = count_exact(histories, times, weights, threads=2)
    for number, name in enumerate(TABLES):
        of = counted(log, name, WINDOW, 0.25, SECONDS)
        assert dense(tables, number) == pytest.approx(of, rel=1e-6)
        for place, user in enumerate(log):
            by_hand = counted([user], name, WINDOW, 0.25, SECONDS)
            row = place if rows is None else rows[place]
            assert own(tables, number, row) == pytest.approx(by_hand, rel=1e-6)
        totals = [sum(count for (item, _), count in of.items() if item == one) for one in range(ITEMS)]
        assert tables.total[number].tolist() == pytest.approx(totals, rel=1e-6)
    owned = zip(tables.own_offsets[:-1], tables.own_offsets[1:], strict=True)
    sums = [tables.own_count[:, begin:end].sum(1) for begin, end in owned]
    np.testing.assert_allclose(tables.own_total.T, sums, rtol=1e-5)
    assert (np.diff(tables.own_row) > 0).all()


def test_what_one_user_alone_counted_is_subtracted_to_the_last_bit() -> None:
    log = [*some_log(2), ([4, 3, 4, 2, 4, 3] * 7, list(range(0, 84, 2)))]
    alone = [([item if item != 4 else -1 for item in items], times) for items, times in log[:-1]]
    histories, times = as_histories([*alone, log[-1]])
    tables = count_exact(histories, times, PairWeights(TABLES, window=WINDOW))
    mine = int(np.flatnonzero(tables.own_row == (len(log) - 1) * ITEMS + 4)[0])
    assert (tables.own_total[:, mine] == tables.total[:, 4]).all()
    pairs = slice(tables.own_offsets[mine], tables.own_offsets[mine + 1])
    assert (tables.own_count[:, pairs] == tables.count[:, tables.own_place[pairs]]).all()
    assert (tables.own_count[:, pairs] > 0).any(1).all()


def test_neighbors_are_those_of_the_highest_counts_of_all_tables() -> None:
    log = some_log(3, 40)
    histories, times = as_histories(log)
    kept = count_exact(histories, times, PairWeights(("forward", "session"), window=WINDOW, neighbors=2))
    whole = [counted(log, name, WINDOW, 0.5, 600) for name in ("forward", "session")]
    for item in range(ITEMS):
        sums = {
            other: sum(table.get((item, other), 0.0) for table in whole)
            for other in range(ITEMS)
            if any((item, other) in table for table in whole)
        }
        best = sorted(sums, key=lambda other: (-round(sums[other], 6), other))[:2]
        assert kept.follower[kept.offsets[item] : kept.offsets[item + 1]].tolist() == sorted(best)
    rows = np.repeat(np.arange(ITEMS), np.diff(kept.offsets))
    for number in range(2):
        summed = np.bincount(rows, kept.count[number], ITEMS)
        np.testing.assert_allclose(kept.total[number], summed, rtol=1e-5)
        shared = np.bincount(kept.own_place, kept.own_count[number], len(kept.follower))
        np.testing.assert_allclose(shared, kept.count[number], rtol=1e-5)


def test_logs_without_pairs() -> None:
    for log in ([], [([], [])], [([3], [0])], [([2, 2, -1], [0, 1, 2])]):
        histories, times = as_histories(log)
        tables = count_exact(histories, times, PairWeights(("both",)))
        assert tables.follower.tolist() == tables.own_row.tolist() == []
        assert tables.total.tolist() == [[0.0] * ITEMS]
        assert math.isfinite(tables.nbytes)


def test_sessions_need_times() -> None:
    histories, _ = as_histories(some_log(1))
    with pytest.raises(ValueError, match="timestamps"):
        count_exact(histories, None, PairWeights(("session",)))
