"""Histories in two steps: what a job makes of rows is what the command makes of a table."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.data.declared import CORE
from models.serving.recommend.encoding import HistoryEncoder
from models.serving.recommend.ids import Ids
from models.serving.recommend.table import Asking, HistoryTable
from tests.models.serving.recommend_world import events, prepare


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> HistoryEncoder:
    shards = open_shards(prepare(tmp_path_factory.mktemp("encoding")))
    return HistoryEncoder(shards, CORE, Ids(shards))


def plain(encoder: HistoryEncoder) -> HistoryTable:
    return HistoryTable(encoder.shards, CORE, encoder.ids)


def rows_of(lists: bool, seed: int = 3) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    rows = [
        dict(zip(("user", "item", "behavior", "timestamp"), event, strict=True))
        for event in events(seed, users=17)
    ]
    rows[5]["item"] = "nobody knows"
    draw.shuffle(rows)
    if not lists:
        rows.insert(9, {"user": "none", "item": None, "behavior": None, "timestamp": None})
        return [row | {"at": draw.choice((None, 2_000_000_000))} for row in rows]
    found: dict[str, dict[str, Any]] = {"none": {"user": "none", "item": [], "behavior": [], "timestamp": []}}
    for row in rows:
        own = found.setdefault(
            row["user"], {"user": row["user"], "item": [], "behavior": [], "timestamp": []}
        )
        for name in ("item", "behavior", "timestamp"):
            own[name].append(row[name])
    return [row | {"at": draw.choice((None, 2_000_000_000))} for row in found.values()]


def grouped(encoder: HistoryEncoder, rows: pa.RecordBatch, lists: bool) -> Asking:
    """In the way of a job: encode, then put users together."""
    return encoder.numbered(whole_histories(encoder, rows, lists))


def whole_histories(encoder: HistoryEncoder, rows: pa.RecordBatch, lists: bool) -> pa.RecordBatch:
    """Events by `encode`, of one user after the other."""
    users = rows.column("user").to_pylist()
    encoded, bad = encoder.encode(rows.drop_columns(["user"]))
    assert not bad
    order: dict[Any, int] = {}
    number = [
        order.setdefault(row if lists else users[row], len(order)) for row in encoded["row"].to_pylist()
    ]
    table = pa.Table.from_batches([encoded]).drop_columns(["row"])
    table = table.append_column("number", pa.array(number, pa.int64()))
    table = table.append_column("user", pa.array([users[row] for row in encoded["row"].to_pylist()]))
    table = table.take(pa.array(np.argsort(number, kind="stable"))).combine_chunks()
    return table.to_batches()[0]


@pytest.mark.parametrize("lists", [False, True])
def test_two_steps_are_one(encoder: HistoryEncoder, lists: bool) -> None:
    rows = pa.RecordBatch.from_pylist(rows_of(lists))
    [expected] = plain(encoder).read([rows])
    found = grouped(encoder, rows, lists)
    assert found.users.to_pylist() == expected.users.to_pylist()
    assert (found.unsorted, found.unknown_items) == (expected.unsorted, expected.unknown_items)
    assert found.unsorted
    assert found.unknown_items
    np.testing.assert_array_equal(found.at, expected.at)
    np.testing.assert_array_equal(found.data.offsets, expected.data.offsets)
    for name, values in expected.data.events.items():
        np.testing.assert_array_equal(found.data.events[name], values)


@pytest.mark.parametrize("lists", [False, True])
def test_bad_rows_are_found_one_by_one(encoder: HistoryEncoder, lists: bool) -> None:
    """The others are as without them."""
    rows = rows_of(lists)
    good, _ = encoder.encode(pa.RecordBatch.from_pylist(rows).drop_columns(["user"]))
    mixed: list[dict[str, Any]] = list(rows)
    for place, (behavior, time) in ((0, ("sell", 1)), (8, ("buy", "soon")), (len(rows) + 2, ("vew", 9))):
        bad = {"user": "x", "item": "i1", "behavior": behavior, "timestamp": time, "at": None}
        if lists:
            bad |= {name: [bad[name]] for name in ("item", "behavior", "timestamp")}
        mixed.insert(place, bad)
    text = [
        row
        | {
            "timestamp": list(map(str, row["timestamp"]))
            if lists
            else row["timestamp"] and str(row["timestamp"])
        }
        for row in mixed
    ]
    found, told = encoder.encode(pa.RecordBatch.from_pylist(text).drop_columns(["user"]))
    assert [(row, what) for row, what, _ in told] == [
        (0, "behavior 'sell' is not in the data set"),
        (8, "timestamp 'soon' is not a whole number"),
        (len(rows) + 2, "behavior 'vew' is not in the data set"),
    ]
    assert "view" in str(told[2][2])
    kept = [row for row in range(len(mixed)) if row not in (0, 8, len(rows) + 2)]
    assert [kept.index(row) for row in found["row"].to_pylist()] == good["row"].to_pylist()
    assert found.drop_columns(["row"]).equals(good.drop_columns(["row"]))


def test_nothing_and_times_of_1970(encoder: HistoryEncoder) -> None:
    empty = pa.RecordBatch.from_pylist(rows_of(False)).drop_columns(["user"]).slice(0, 0)
    found, bad = encoder.encode(empty)
    assert (found.num_rows, bad) == (0, [])
    rows = [{"item": "i1", "behavior": "buy", "timestamp": time} for time in (1, 2)]
    with pytest.raises(UserError, match="times of 1970 alone"):
        encoder.encode(pa.RecordBatch.from_pylist(rows))
