from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from behavior import UserError
from behavior.cooccurrence import (
    CooccurrenceConfig,
    CooccurrenceTable,
    Histories,
    count_cooccurrence,
    cross_fit,
    fold_of,
    history_weights,
    read_histories,
)
from behavior.cooccurrence import count as counting
from behavior.cooccurrence.kernels import ascending
from tests.behavior.cooccurrence.oracle import Table, count_by_hand, fold_by_hand

BEHAVIORS = ("view", "cart", "buy")

History = list[tuple[int, int]]


def histories_of(rows: list[History], items: int, row: list[int] | None = None) -> Histories:
    flat = [event for history in rows for event in history]
    return Histories(
        item=np.array([item for item, _ in flat], np.int32),
        offsets=np.cumsum([0, *map(len, rows)]),
        row=np.arange(len(rows)) if row is None else np.array(row),
        items=items,
        behavior=np.array([behavior for _, behavior in flat], np.int8),
        behaviors=BEHAVIORS,
    )


def random_rows(seed: int, users: int = 40, items: int = 25, longest: int = 30) -> list[History]:
    """Some without events, many repeats, some unknown items."""
    draw = np.random.default_rng(seed)
    return [
        [
            (int(min(draw.geometric(0.12), items + 1)) - 2, int(draw.integers(1, 4)))
            for _ in range(draw.integers(0, longest))
        ]
        for _ in range(users)
    ]


def as_dict(table: CooccurrenceTable) -> Table:
    assert (table.count > 0).all()
    pairs = list(zip(table.source.tolist(), table.follower.tolist(), strict=True))
    assert pairs == sorted(set(pairs))
    return dict(zip(pairs, table.count.tolist(), strict=True))


def assert_same(table: CooccurrenceTable, expected: Table) -> None:
    found = as_dict(table)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected, rel=1e-6)


def test_pairs_within_the_window_count_by_their_distance() -> None:
    """Items 0 1 2 3, window 3: next ones count 1, those after them 1/2, and against time half as much."""
    config = CooccurrenceConfig(window=3, backward=0.5)
    table = count_cooccurrence(histories_of([[(0, 1), (1, 1), (2, 1), (3, 1)]], 4), config)
    assert table.matrix.toarray().tolist() == [
        [0.0, 1.0, 0.5, 0.0],
        [0.5, 0.0, 1.0, 0.5],
        [0.25, 0.5, 0.0, 1.0],
        [0.0, 0.25, 0.5, 0.0],
    ]


def test_an_item_follows_itself_where_it_repeats() -> None:
    rows = histories_of([[(0, 1), (1, 1), (0, 1)]], 2)
    both = CooccurrenceConfig(backward=1.0)
    assert count_cooccurrence(rows, both).matrix.toarray().tolist() == [[1.0, 2.0], [2.0, 0.0]]
    others = CooccurrenceConfig(backward=1.0, repeats=False)
    assert count_cooccurrence(rows, others).matrix.toarray().tolist() == [[0.0, 2.0], [2.0, 0.0]]


def test_unknown_items_keep_others_at_a_distance_and_histories_apart() -> None:
    table = count_cooccurrence(histories_of([[(0, 1), (-1, 1), (1, 1)], [], [(2, 1)]], 3))
    assert as_dict(table) == {(0, 1): 0.5}


SETTINGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"window": 2}, {"window": 2}),
    ({"backward": 0.75}, {"backward": Fraction(3, 4)}),
    ({"backward": 1.0, "neighbors": 4}, {"backward": Fraction(1), "neighbors": 4}),
    ({"neighbors": 3, "stochastic": True}, {"neighbors": 3, "stochastic": True}),
    ({"repeats": False, "window": 40}, {"repeats": False, "window": 40}),
    ({"popularity_power": 0.5, "neighbors": 5}, {"popularity_power": 0.5, "neighbors": 5}),
    (
        {"source": {"view": 0.5, "buy": 2.0}, "follower": {"buy": 1.0, "cart": 0.25}, "backward": 0.5},
        {
            "source": (Fraction(0), Fraction(1, 2), Fraction(0), Fraction(2)),
            "follower": (Fraction(0), Fraction(0), Fraction(1, 4), Fraction(1)),
            "backward": Fraction(1, 2),
        },
    ),
]


@pytest.mark.parametrize(("settings", "by_hand"), SETTINGS)
def test_counts_are_those_of_the_definition(settings: dict[str, Any], by_hand: dict[str, Any]) -> None:
    rows = random_rows(seed=1)
    table = count_cooccurrence(histories_of(rows, 25), CooccurrenceConfig(**settings))
    assert_same(table, count_by_hand(rows, **by_hand))


def test_a_power_of_the_distance() -> None:
    rows = histories_of([[(0, 1), (1, 1), (2, 1), (3, 1)]], 4)
    table = count_cooccurrence(rows, CooccurrenceConfig(power=2.0))
    assert table.matrix.toarray()[0] == pytest.approx([0.0, 1.0, 1 / 4, 1 / 9], rel=1e-7)


@pytest.mark.parametrize("settings", [{}, {"backward": 0.5, "neighbors": 3, "stochastic": True}])
def test_the_table_of_a_fold_is_counted_of_all_other_folds(settings: dict[str, Any]) -> None:
    rows = random_rows(seed=2)
    fitted = cross_fit(histories_of(rows, 25), CooccurrenceConfig(**settings), folds=3)
    by_hand = {name: Fraction(value) if name == "backward" else value for name, value in settings.items()}
    for fold, table in enumerate(fitted.without):
        others = [history for row, history in enumerate(rows) if fold_by_hand(row, 3) != fold]
        # Popularity plays no part without its power: what is left out is left out of everything.
        assert_same(table, count_by_hand(others, **by_hand))
    assert_same(fitted.everybody, count_by_hand(rows, **by_hand))


def test_a_users_own_events_change_only_what_others_use() -> None:
    rows = random_rows(seed=3)
    changed = [*rows]
    changed[7] = [(24, 1), (3, 2), (24, 3), (11, 1)]
    before, after = (cross_fit(histories_of(some, 25), folds=4) for some in (rows, changed))
    own = fold_by_hand(7, 4)
    for fold in range(4):
        same = as_dict(before.without[fold]) == as_dict(after.without[fold])
        assert same == (fold == own)
    assert as_dict(before.everybody) != as_dict(after.everybody)


def test_folds_are_those_of_row_numbers_and_of_even_size() -> None:
    rows = np.arange(100_000)
    for folds in (2, 4, 7):
        found = fold_of(rows, folds)
        assert found[:1000].tolist() == [fold_by_hand(row, folds) for row in range(1000)]
        assert np.bincount(found, minlength=folds) == pytest.approx(100_000 / folds, rel=0.02)


def test_the_order_of_users_the_threads_and_the_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, order = random_rows(seed=4), np.random.default_rng(5).permutation(40).tolist()
    config = CooccurrenceConfig(backward=0.7, neighbors=6, popularity_power=0.3, stochastic=True)
    one = cross_fit(histories_of(rows, 25), config, folds=2, threads=1)
    monkeypatch.setattr(counting, "_ROOM", 40)
    shuffled = histories_of([rows[row] for row in order], 25, order)
    other = cross_fit(shuffled, config, folds=2, threads=3)
    for ours, theirs in zip((*one.without, one.everybody), (*other.without, other.everybody), strict=True):
        for name in ("offsets", "follower", "count"):
            assert getattr(ours, name).tobytes() == getattr(theirs, name).tobytes()


@pytest.mark.parametrize("below", [1, 255, 256, 257, 70_000, 2**31 - 1])
def test_numbers_in_ascending_order(below: int) -> None:
    """By insertion and by bytes."""
    draw = np.random.default_rng(below)
    for count in (0, 1, 31, 32, 33, 200):
        numbers = draw.permutation(np.unique(draw.integers(0, below, count))).astype(np.int32)
        found = ascending(numbers.copy(), np.empty_like(numbers), below)
        assert found.tolist() == sorted(numbers.tolist())


def test_nothing_to_count() -> None:
    empty = count_cooccurrence(histories_of([], 3))
    assert (empty.items, empty.pairs) == (3, 0)
    none = count_cooccurrence(histories_of([[]], 0))
    assert (none.items, none.pairs) == (0, 0)


def test_behaviors_that_there_are_not() -> None:
    with pytest.raises(UserError, match="no behavior 'sell'"):
        count_cooccurrence(histories_of([], 3), CooccurrenceConfig(source={"sell": 1.0}))


def test_histories_that_do_not_fit_together() -> None:
    with pytest.raises(ValueError, match="items from 0 to 5, of 3"):
        histories_of([[(0, 1), (5, 1)]], 3)
    with pytest.raises(ValueError, match="offsets"):
        Histories(np.zeros(2, np.int32), np.array([0, 1]), np.array([0]), 3)


def test_scores_of_the_last_events() -> None:
    rows = random_rows(seed=6)
    histories = histories_of(rows, 25)
    table = count_cooccurrence(histories)
    begin, stop = histories.offsets[:-1], histories.offsets[1:]
    scores = (history_weights(histories.item, begin, stop, 25, events=5, decay=0.5) @ table.matrix).toarray()
    by_hand, counts = np.zeros((len(rows), 25)), count_by_hand(rows)
    for user, history in enumerate(rows):
        for age, (item, _) in enumerate(reversed(history[-5:])):
            for other in range(25):
                by_hand[user, other] += 0.5**age * counts.get((item, other), 0.0)
    np.testing.assert_allclose(scores, by_hand, rtol=1e-6)


def test_events_of_a_data_set(tmp_path: Path) -> None:
    lines = ["ann,lamp,view,1", "ann,desk,buy,2", "ann,sofa,buy,3", "ann,lamp,buy,4", "bob,sofa,view,1"]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,action,time", *lines]) + "\n")
    (tmp_path / "spec.yaml").write_text(
        "name: shop\nevents: {files: log.csv, columns: {user: user, item: item, timestamp: time}, "
        "behavior: {column: action}}\ntimestamp_unit: s\nbehaviors: [view, buy]\ntargets: [buy]\n"
    )
    import behavior

    shards = behavior.prepare(tmp_path / "spec.yaml", tmp_path / "shop")
    ids = shards.items()
    names = dict(zip(ids["index"].to_pylist(), ids["id"].to_pylist(), strict=True))
    found = {}
    for part in ("train", "valid", "all"):
        histories = read_histories(tmp_path / "shop", part)  # type: ignore[arg-type]
        assert histories.row.tolist() == [0, 1]
        found[part] = {
            tuple(
                (names[item + shards.first_item], histories.behaviors[kind - 1])
                for item, kind in zip(histories.item[begin:end], histories.behavior[begin:end], strict=True)
            )
            for begin, end in zip(histories.offsets, histories.offsets[1:], strict=False)
        }
    ann = (("lamp", "view"), ("desk", "buy"), ("sofa", "buy"), ("lamp", "buy"))
    bob = (("sofa", "view"),)
    assert found == {"train": {ann[:2], bob}, "valid": {ann[:3], bob}, "all": {ann, bob}}
