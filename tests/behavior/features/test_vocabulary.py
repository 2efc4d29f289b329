from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.features.vocabulary import IdCounts, Vocabulary, extend
from tests.behavior.arrow.test_hashing import finalized, fnv1a
from tests.behavior.logs import few

events = st.lists(
    st.tuples(st.sampled_from(["1", "2", "10", "9", "-3", "b"]) | st.sampled_from("123"), st.booleans()),
    max_size=30,
)


def vocabulary_of(counts: dict[str | int, int], oov: int = 1, kind: pa.DataType | None = None) -> Vocabulary:
    table = pa.table(
        {
            "id": pa.array(list(counts), kind or pa.string()),
            "count": pa.array(list(counts.values()), pa.int64()),
            "train_count": pa.array([n - 1 for n in counts.values()], pa.int64()),
        }
    )
    return Vocabulary.from_counts(table, oov)


@few
@given(st.lists(events, max_size=4), st.randoms())
def test_counts_merge_in_any_order(batches: list[list[tuple[str, bool]]], random) -> None:
    counter = IdCounts(pa.string())
    counts = [
        counter.count(pa.array([i for i, _ in batch], pa.string()), np.array([t for _, t in batch], bool))
        for batch in batches
    ]
    every = [event for batch in batches for event in batch]
    merged = counter.merge(counts)
    ids = merged.column("id").to_pylist()
    assert dict(zip(ids, merged.column("count").to_pylist(), strict=True)) == Counter(i for i, _ in every)
    in_train = {i: n for i, n in zip(ids, merged.column("train_count").to_pylist(), strict=True) if n}
    assert in_train == Counter(i for i, train in every if train)

    random.shuffle(counts)
    half = len(counts) // 2
    again = counter.merge([counter.merge(counts[:half]), counter.create(), counter.merge(counts[half:])])
    table = Vocabulary.from_counts(merged, 1).table
    assert table == Vocabulary.from_counts(again, 1).table

    numeric = all(i.lstrip("-").isdigit() for i in ids)
    first_counts = Counter(i for i, _ in every)
    expected = sorted(ids, key=lambda i: (-first_counts[i], int(i) if numeric else 0, i))
    assert table.column("id").to_pylist() == expected
    assert table.column("index").to_pylist() == list(range(2, 2 + len(ids)))


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["10", "9", "-1", "0"], ["-1", "0", "9", "10"]),  # numbers
        (["10", "9", "x"], ["10", "9", "x"]),  # one is no number: all are text
        (["10", "9", "09"], ["09", "10", "9"]),  # 09 is not how a number is written
        (["10", "9", ""], ["", "10", "9"]),
        (["é", "z", "Z"], ["Z", "z", "é"]),
    ],
)
def test_ties_by_id(ids: list[str], expected: list[str]) -> None:
    for order in (ids, ids[::-1]):
        assert vocabulary_of(dict.fromkeys(order, 3)).ids.to_pylist() == expected
    assert vocabulary_of(dict.fromkeys([10, 9, -1], 3), kind=pa.int64()).ids.to_pylist() == [-1, 9, 10]


def test_indices_begin_behind_padding_and_the_unknown() -> None:
    vocabulary = vocabulary_of({"rare": 1, "common": 9, "some": 4}, oov=3)
    assert vocabulary.indices(pa.array(["common", "some", "rare", "common"])).tolist() == [4, 5, 6, 4]
    assert len(vocabulary) == 3
    assert vocabulary.indices(pa.array([], pa.string())).tolist() == []


@pytest.mark.parametrize("oov", [1, 5])
def test_unknown_ids_share_indices_by_a_stable_hash(oov: int) -> None:
    texts = [f"new{n}" for n in range(20)]
    got = vocabulary_of({"a": 1}, oov).indices(pa.array(texts)).tolist()
    assert got == [1 + finalized(fnv1a(text.encode())) % oov for text in texts]
    assert set(got) == set(range(1, oov + 1))
    numbers = vocabulary_of({7: 1}, oov, pa.int64()).indices(pa.array([7, 8])).tolist()
    assert numbers == [oov + 1, 1 + finalized(8) % oov]


def test_a_vocabulary_of_the_training_part_leaves_the_others_out() -> None:
    counts = IdCounts(pa.string()).count(
        pa.array(["a", "a", "a", "b", "c", "c"]), np.array([1, 0, 0, 0, 1, 1], bool)
    )
    assert Vocabulary.from_counts(counts, 1).ids.to_pylist() == ["a", "c", "b"]
    trained = Vocabulary.from_counts(counts, 1, by="train_count")
    assert trained.ids.to_pylist() == ["c", "a"]
    assert trained.indices(pa.array(["b"])).tolist() == [1]


def test_an_empty_vocabulary() -> None:
    empty = Vocabulary.from_counts(IdCounts(pa.string()).create(), 2)
    assert len(empty) == 0
    assert set(empty.indices(pa.array(["a", "b", "c"])).tolist()) <= {1, 2}


@pytest.mark.parametrize(
    ("limits", "known"),
    [
        ({}, ["a", "c", "b", "d"]),
        ({"min_count": 2}, ["a", "c"]),
        ({"max_size": 3}, ["a", "c", "b"]),
        ({"max_size": 3, "min_count": 3}, ["a"]),
        ({"min_count": 9}, []),
        ({"by": "train_count", "min_count": 2}, ["c"]),
        ({"by": "train_count", "max_size": 2}, ["c", "a"]),
    ],
)
def test_rare_ids_can_be_left_out(limits: dict, known: list[str]) -> None:
    counts = IdCounts(pa.string()).count(pa.array(list("aaaccbd")), np.array([1, 0, 0, 1, 1, 0, 1], bool))
    vocabulary = Vocabulary.from_counts(counts, 2, **limits)
    assert vocabulary.ids.to_pylist() == known
    assert vocabulary.table.column("index").to_pylist() == list(range(3, 3 + len(known)))
    assert vocabulary.indices(pa.array(["nobody"])).tolist()[0] in (1, 2)


counted = st.dictionaries(st.sampled_from(["1", "2", "10", "9", "-3", "b", "c"]), st.integers(1, 3))


@few
@given(counted, counted, st.integers(1, 3), st.none() | st.integers(1, 6), st.integers(1, 2))
def test_extending_keeps_indices(
    old: dict[str, int], added: dict[str, int], min_count: int, max_size: int | None, oov: int
) -> None:
    previous = vocabulary_of(old, oov)
    total = dict(Counter(old) + Counter(added))
    # Totals in any order; here an id that nobody counts any more, too.
    gone = next(iter(old), None)
    totals = {i: n for i, n in reversed(total.items()) if i != gone or i in added}
    extended = extend(previous, vocabulary_of(totals).table, min_count=min_count, max_size=max_size)

    before, after = previous.ids.to_pylist(), extended.ids.to_pylist()
    assert after[: len(before)] == before
    new = [i for i in totals if i not in old and totals[i] >= min_count]
    numeric = all(i.lstrip("-").isdigit() for i in new)
    new.sort(key=lambda i: (-totals[i], int(i) if numeric else 0, i))
    room = len(new) if max_size is None else max(0, max_size - len(before))
    assert after[len(before) :] == new[:room]
    assert extended.oov == oov
    assert extended.table.schema == previous.table.schema
    assert extended.table.column("index").to_pylist() == list(range(oov + 1, oov + 1 + len(after)))
    assert extended.table.column("count").to_pylist() == [totals.get(i, 0) for i in after]
    assert extended.table.column("train_count").to_pylist() == [max(0, totals.get(i, 0) - 1) for i in after]
    assert np.array_equal(extended.indices(previous.ids), previous.indices(previous.ids))


def test_extending_by_the_training_part() -> None:
    counter = IdCounts(pa.int64())
    old = counter.count(pa.array([7, 7, 5]), np.array([0, 1, 1], bool))
    new = counter.count(pa.array([3, 3, 2, 1]), np.array([0, 0, 1, 1], bool))
    previous = Vocabulary.from_counts(old, 1, by="train_count")
    extended = extend(previous, counter.merge([old, new]), by="train_count")
    assert extended.ids.to_pylist() == [5, 7, 1, 2]
    assert extended.indices(pa.array([3])).tolist() == [1]
