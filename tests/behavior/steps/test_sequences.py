from __future__ import annotations

from itertools import groupby, pairwise
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from behavior.steps.partition import cut_sequences
from behavior.steps.sequences import build_sequences
from tests.behavior.logs import few, make_spec, untimed_spec

TYPES = {"user": pa.string(), "item": pa.string(), "behavior": pa.int8(), "timestamp": pa.int64()}
SCHEMA = pa.schema({**TYPES, "value": pa.float32()})
Event = tuple[str, str, int, int, float | None]

events = st.lists(
    st.tuples(
        st.sampled_from(["u", "v", "10", "9"]),
        st.sampled_from("abc"),
        st.integers(1, 2),
        st.integers(-2, 3),
        st.sampled_from([None, 1.5, 2.0]),
    ),
    min_size=1,
    max_size=30,
)
cuts = st.lists(st.integers(0, 30), max_size=3)


def batches_of(log: list[Event], cuts: list[int] = (), timed: bool = True) -> list[pa.RecordBatch]:
    schema = SCHEMA if timed else SCHEMA.remove(3)
    bounds = [0, *sorted(min(cut, len(log)) for cut in cuts), len(log)]
    pieces = [log[begin:end] for begin, end in pairwise(bounds)]
    return [
        pa.RecordBatch.from_pylist([dict(zip(SCHEMA.names, event, strict=True)) for event in piece], schema)
        for piece in pieces
    ]


def rows_of(table: pa.Table) -> list[tuple[str, list[tuple[Any, ...]]]]:
    columns = [table.column(name).to_pylist() for name in table.column_names if name != "user"]
    return [
        (user, list(zip(*lists, strict=True)))
        for user, *lists in zip(table.column("user").to_pylist(), *columns, strict=True)
    ]


def by_hand(log: list[Event], duplicates: bool = False, repeats: bool = False, limit: int = 99) -> list:
    """Sorted by user and time with Python's stable sort; then filtered event by event."""
    result = []
    for user, own in groupby(sorted(log, key=lambda e: (e[0], e[3])), key=lambda e: e[0]):
        kept: list[Event] = list(own)
        if duplicates:
            kept = [event for place, event in enumerate(kept) if event not in kept[:place]]
        if repeats:
            kept = [e for place, e in enumerate(kept) if place == 0 or kept[place - 1][1] != e[1]]
        result.append((user, [event[1:] for event in kept][-limit:]))
    return result


@few
@given(events, cuts, st.booleans(), st.booleans())
def test_sequences_against_sorted(log: list[Event], cuts: list[int], duplicates: bool, repeats: bool) -> None:
    spec = make_spec(filters={"duplicates": duplicates, "repeats": repeats})
    assert rows_of(build_sequences(batches_of(log, cuts), spec)) == by_hand(log, duplicates, repeats)


@few
@given(events, cuts, st.integers(1, 4))
def test_the_newest_events_are_kept(log: list[Event], cuts: list[int], limit: int) -> None:
    spec = make_spec(max_events=limit)
    cut = cut_sequences(build_sequences(batches_of(log, cuts), spec), spec)
    assert rows_of(cut.drop_columns(["train_end", "valid_end"])) == by_hand(log, limit=limit)


def test_ties_keep_the_order_of_the_input_across_batches() -> None:
    log = [("u", f"i{n}", 1, 5, None) for n in range(100)] + [("u", "first", 1, 4, None)]
    [(_, rows)] = rows_of(build_sequences(batches_of(log, [7, 50]), make_spec()))
    assert [item for item, *_ in rows] == ["first", *(f"i{n}" for n in range(100))]


def test_a_log_without_times_keeps_its_order() -> None:
    log: list[Event] = [
        ("u", "c", 1, 0, None),
        ("v", "x", 1, 0, None),
        ("u", "a", 1, 0, None),
        ("u", "b", 1, 0, None),
    ]
    rows = rows_of(build_sequences(batches_of(log, timed=False), untimed_spec()))
    assert [(user, [item for item, *_ in own]) for user, own in rows] == [
        ("u", ["c", "a", "b"]),
        ("v", ["x"]),
    ]


def test_an_exact_copy_differs_in_nothing_and_need_not_stand_beside() -> None:
    log: list[Event] = [
        ("u", "a", 1, 5, 1.0),
        ("u", "b", 1, 5, 1.0),
        ("u", "a", 1, 5, 1.0),
        ("u", "a", 1, 5, None),
        ("u", "a", 1, 5, None),
        ("u", "a", 2, 5, 1.0),
        ("v", "a", 1, 5, 1.0),
    ]
    rows = rows_of(build_sequences(batches_of(log), make_spec(filters={"duplicates": True})))
    assert rows == [
        ("u", [("a", 1, 5, 1.0), ("b", 1, 5, 1.0), ("a", 1, 5, None), ("a", 2, 5, 1.0)]),
        ("v", [("a", 1, 5, 1.0)]),
    ]


def test_a_repeat_is_of_the_event_just_before_and_never_of_another_user() -> None:
    log: list[Event] = [("u", item, 1, time, None) for time, item in enumerate("aabaabb")]
    log.append(("v", "b", 1, 0, None))
    rows = rows_of(build_sequences(batches_of(log), make_spec(filters={"repeats": True})))
    assert [(user, "".join(item for item, *_ in own)) for user, own in rows] == [("u", "abab"), ("v", "b")]
