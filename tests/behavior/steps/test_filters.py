from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from behavior.steps.filters import core_items, keep_core
from behavior.steps.sequences import build_sequences
from tests.behavior.logs import few, untimed_spec

Log = list[tuple[str, str]]


def sequences_of(log: Log) -> pa.Table:
    schema = pa.schema([("user", pa.string()), ("item", pa.string()), ("behavior", pa.int8())])
    rows = [{"user": user, "item": item, "behavior": 1} for user, item in log]
    return build_sequences([pa.RecordBatch.from_pylist(rows, schema)], untimed_spec())


def by_hand(log: Log, least_user: int, least_item: int) -> Log:
    """Drop events of rare users and items, over and over, until none is dropped."""
    while True:
        users, items = [user for user, _ in log], [item for _, item in log]
        kept = [
            (user, item)
            for user, item in log
            if users.count(user) >= least_user and items.count(item) >= least_item
        ]
        if kept == log:
            return log
        log = kept


def rows_of(sequences: pa.Table) -> Log:
    lists = zip(sequences.column("user").to_pylist(), sequences.column("item").to_pylist(), strict=True)
    return [(user, item) for user, items in lists for item in items]


@few
@given(
    st.lists(st.tuples(st.sampled_from("uvwxyz"), st.sampled_from("abcdef")), min_size=1, max_size=40),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 3),
)
def test_minimum_counts_against_a_loop_to_the_fixed_point(log: Log, user: int, item: int, parts: int) -> None:
    buckets = [
        sequences_of(own) for part in range(parts) if (own := [e for e in log if ord(e[0]) % parts == part])
    ]
    items = core_items(buckets, user, item)
    kept = [row for bucket in buckets for row in rows_of(keep_core(bucket, items, user))]
    assert sorted(kept) == sorted(by_hand(log, user, item))
    assert set(items.to_pylist()) >= {item for _, item in kept}
    for bucket in buckets:
        own = rows_of(bucket)
        assert rows_of(keep_core(bucket, items, user)) == [event for event in own if event in set(kept)]


def test_one_removal_may_cause_the_next() -> None:
    # w goes, so c is too rare, so v goes, so b is too rare, so u goes.
    log = [("u", "a"), ("u", "b"), ("v", "b"), ("v", "c"), ("w", "c")]
    assert rows_of(keep_core(sequences_of(log), core_items([sequences_of(log)], 2, 2), 2)) == []
    safe = [("u", "a"), ("u", "b"), ("v", "a"), ("v", "b"), ("w", "b")]
    kept = rows_of(keep_core(sequences_of(safe), core_items([sequences_of(safe)], 2, 2), 2))
    assert kept == safe[:4]


@few
@given(
    st.lists(
        st.tuples(st.sampled_from("uvwx"), st.sampled_from("abcd"), st.integers(1, 3)),
        min_size=1,
        max_size=40,
    ),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_some_behaviors_alone_count(log: list[tuple[str, str, int]], user: int, item: int) -> None:
    """Others stay where their user and item do."""
    schema = pa.schema([("user", pa.string()), ("item", pa.string()), ("behavior", pa.int8())])
    rows = [{"user": who, "item": what, "behavior": how} for who, what, how in log]
    sequences = build_sequences([pa.RecordBatch.from_pylist(rows, schema)], untimed_spec())
    kept = log
    while True:
        counted = [event for event in kept if event[2] in (1, 3)]
        users, items = [event[0] for event in counted], [event[1] for event in counted]
        still = [each for each in kept if users.count(each[0]) >= user and items.count(each[1]) >= item]
        if still == kept:
            break
        kept = still
    found = keep_core(sequences, core_items([sequences], user, item, [1, 3]), user, [1, 3])
    lists = zip(*(found.column(name).to_pylist() for name in ("user", "item", "behavior")), strict=True)
    rows_found = [(who, *event) for who, items, hows in lists for event in zip(items, hows, strict=True)]
    assert sorted(rows_found) == sorted(kept)
