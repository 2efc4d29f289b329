"""Histories in two steps: what a job makes of rows is what the command makes of a table."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.data.declared import CORE
from models.serving.recommend.encoding import HistoryEncoder
from models.serving.recommend.files import read_histories
from models.serving.recommend.ids import Ids
from models.serving.recommend.lists import flat_lists
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
    first = next(row for row in found.values() if len(row["item"]) > 2)
    for name in ("item", "behavior", "timestamp"):  # no event, in the midst of others
        first[name].insert(1, None)
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


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_who_says_no_behavior_means_the_only_one(kind: str, tmp_path: Path) -> None:
    """In a column that is not there, or is empty; in lists and in rows; by the command and by a job."""
    columns = {"user": "user", "item": "item", "timestamp": "time"}
    events = {"files": "log.csv", "columns": columns, "behavior": "buy"}
    shards = open_shards(prepare(tmp_path, events=events, behaviors=["buy"], targets=["buy"]))
    ids = Ids(shards)
    encoder = HistoryEncoder(shards, CORE, ids)
    single = [{"user": "a", "item": "i1", "timestamp": 1_000_000_000}]
    lists = [{"user": "a", "item": ["i1", "i2"], "timestamp": [1_000_000_000] * 2}]
    for rows, empty in ((single, None), (single, ""), (single, "buy"), (lists, None), (lists, ["buy", None])):
        for names in (["user", "item", "timestamp"], ["user", "item", "timestamp", "behavior"]):
            given = [{name: ({"behavior": empty} | row)[name] for name in names} for row in rows]
            path = tmp_path / f"given.{kind}"
            if kind == "jsonl":
                path.write_text("".join(json.dumps(row) + "\n" for row in given))
            elif kind == "parquet":
                pq.write_table(pa.Table.from_pylist(given), path)
            elif rows is single:
                lines = [",".join(str(value or "") for value in row.values()) for row in given]
                path.write_text("\n".join([",".join(names), *lines, ""]))
            else:
                continue
            batches = list(read_histories(str(path), encoder.names))
            [found] = HistoryTable(shards, CORE, ids).read(batches)
            assert found.data.events["behavior"].tolist() == [1] * found.data.offsets[-1]
            assert found.data.offsets.tolist() == [0, len(rows[0]["item"]) if rows is lists else 1]
            [rows_of_all] = (
                pa.Table.from_batches(batches).drop_columns(["user"]).combine_chunks().to_batches()
            )
            encoded, bad = encoder.encode(rows_of_all)
            assert (encoded["behavior"].to_pylist(), bad) == (found.data.events["behavior"].tolist(), [])


def test_lists_one_after_the_other() -> None:
    """Null for a list that need not be there is as many nulls; all else has a value an event."""
    item = pa.array([["a", "b"], [], None, ["c"], ["d", None]])
    color = pa.array([["x", "y"], None, None, None, [None, "z"]])
    found, lengths = flat_lists({"item": item, "color": color, "none": pa.nulls(5)}, ("item",), None, "here")
    assert lengths.tolist() == [2, 0, 0, 1, 2]
    assert found["item"].to_pylist() == ["a", "b", "c", "d", None]
    assert found["color"].to_pylist() == ["x", "y", None, None, "z"]
    assert found["none"].to_pylist() == [None] * 5
    with pytest.raises(UserError, match="user 'u' has 1 item and 0 of 'color'"):
        flat_lists({"item": item, "color": color}, ("item", "color"), pa.array(["u"] * 5), "here")
    with pytest.raises(UserError, match="'item' has lists and 'at' has not"):
        flat_lists({"item": item, "at": pa.array([1] * 5)}, ("item",), None, "here")
