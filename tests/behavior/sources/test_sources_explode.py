"""Rows that hold a list of events, against plain Python."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import behavior
from behavior.errors import UserError
from tests.behavior.logs import few, folder_of, make_spec, read_log

COLUMNS = {"user": "user", "item": "item", "timestamp": "time"}
CLICKS = {
    "columns": COLUMNS,
    "explode": {"column": "shown", "fields": ["item", "clicked"], "field_separator": "-"},
    "behavior": {"column": "clicked", "map": {"1": "click", "0": "view"}},
}
pages = st.lists(
    st.tuples(
        st.sampled_from("uv"),
        st.lists(st.tuples(st.sampled_from(["a", "b-c", "d"]), st.booleans()), max_size=4),
    ),
    min_size=1,
    max_size=6,
)


@few
@given(pages, st.sampled_from([1 << 20, 30]))
def test_impressions_against_plain_python(rows: list[tuple[str, list]], chunk_bytes: int) -> None:
    shown = [" ".join(f"{item}-{int(clicked)}" for item, clicked in events) for _, events in rows]
    log = "".join(
        f"{user},{time},{text}\n" for time, ((user, _), text) in enumerate(zip(rows, shown, strict=True))
    )
    spec = make_spec(CLICKS, behaviors=["view", "click"])
    with folder_of(log__csv="user,time,shown\n" + log) as folder:
        found = read_log(spec, folder, chunk_bytes)
    expected = [
        (user, item, time, 1 + clicked)
        for time, (user, events) in enumerate(rows)
        for item, clicked in events
    ]
    assert found.rows("user", "item", "timestamp", "behavior") == expected
    assert found.filtered == sum(not events for _, events in rows)
    assert found.read == len(expected) + found.filtered


def test_lists_of_json_and_parquet_and_text() -> None:
    source: dict[str, Any] = {"columns": COLUMNS, "explode": {"column": "item"}}
    rows = [{"user": "u", "item": [3, 1], "time": 5}, {"user": "v", "item": [2], "time": 6}]
    text = 'user,item,time\nu,"[3, 1]",5\nv,[2],6\n'
    with folder_of(log__jsonl="".join(json.dumps(row) + "\n" for row in rows), log__csv=text) as folder:
        pq.write_table(pa.Table.from_pylist(rows), folder / "log.parquet")
        for name in ("log.jsonl", "log.parquet", "log.csv"):
            explode = {"column": "item", "literal": name == "log.csv"}
            spec = make_spec({**source, "files": name, "explode": explode})
            found = read_log(spec, folder)
            assert found.rows("user", "item", "timestamp") == [("u", "3", 5), ("u", "1", 5), ("v", "2", 6)]


def test_bad_rows_stand_by_their_line_and_conditions_see_the_values() -> None:
    log = 'user,time,shown\nu,1,"[a, b]"\nu,2,oops\nv,x,[a]\n'
    source = {
        "columns": COLUMNS,
        "explode": {"column": "shown", "fields": "item", "literal": True},
        "where": {"column": "item", "none_of": "b"},
    }
    with folder_of(log__csv=log) as folder:
        found = read_log(make_spec(source), folder)
        assert found.rows("item") == [("a",)]
        assert (found.read, found.filtered) == (4, 1)
        assert found.reasons == [
            (3, "'shown' is no list of values"),
            (4, "timestamp 'x' is not a whole number"),
        ]
        assert found.rejects[1].text == "v,x,[a]"


@pytest.mark.parametrize(
    ("explode", "message"),
    [
        ({"column": "shown", "fields": ["item", "clicked"]}, "several fields need field_separator"),
        ({"column": "item", "fields": ["other"]}, "explode: 'item' is a list: use its fields, other"),
        ({"column": "shown", "fields": ["other"]}, "explode: nothing reads its fields, other"),
    ],
)
def test_settings_that_contradict_themselves(explode: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_spec({"columns": COLUMNS, "explode": explode})


def test_a_table_in_long_form() -> None:
    log = "user,item,time\nu,1,1\nu,2,2\nv,3,3\nv,1,4\n"
    items = "id,tag,name,price\n2,x,,\n1,b,lamp,7\n9,z,no,1\n1,a,other,8\n2,x y,desk,4\n,q,q,q\n1,,,\n"
    features = [
        {"name": "tag", "kind": "multi_categorical"},
        {"name": "words", "column": "tag", "kind": "text", "hash_size": 1000},
        {"name": "name"},
        {"name": "price", "kind": "numeric", "transform": "none"},
    ]
    table = {"files": "items.csv", "id": "id", "rows_per_id": "all", "features": features}
    with folder_of(log__csv=log, items__csv=items) as folder:
        for kind in ("string", "integer"):
            data = behavior.prepare_tables(make_spec(items=table, id_types={"item": kind}), folder).tables
            tags = values_of(data.vocabularies["tag"])
            names = values_of(data.vocabularies["name"])
            rows = {str(row["id"]): row for row in data.items.to_pylist()}
            assert [tags[n] for n in rows["1"]["tag"]] == ["b", "a"]
            assert [tags[n] for n in rows["2"]["tag"]] == ["x", "x y"]
            assert rows["3"]["tag"] == []
            assert [len(rows[n]["words"]) for n in "123"] == [2, 3, 0]
            assert [names.get(rows[n]["name"]) for n in "123"] == ["lamp", "desk", None]
            assert [rows[n]["price"] for n in "12"] == [7, 4]
            assert [f.known for f in data.coverage[0].features] == [2, 2, 2, 2]


def values_of(vocabulary: pa.Table) -> dict[int, str]:
    return {row["index"]: row["value"] for row in vocabulary.to_pylist()}
