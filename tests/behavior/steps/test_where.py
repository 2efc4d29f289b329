"""Rows that the spec leaves out on purpose are filtered, and never rejected; text is trimmed."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

import behavior
from tests.behavior.logs import folder_of, make_spec, read_log

LOG = "user,item,time,land\nu,1,1,DE\n,2,2,DE\nv,3,x,US\nw,4,bad,DE\nw, 5 ,6,DE\n"
WHERE = [{"column": "user", "missing": False}, {"column": "land", "none_of": "US"}]


def test_filtered_rows_are_not_judged() -> None:
    with folder_of(log__csv=LOG) as folder:
        for chunk_bytes in (1 << 20, 20):
            found = read_log(make_spec({"where": WHERE}), folder, chunk_bytes)
            assert found.rows("user", "item", "timestamp") == [("u", "1", 1), ("w", " 5 ", 6)]
            assert (found.read, found.filtered, len(found.rejects)) == (5, 2, 1)
            assert found.rejects[0].text == "w,4,bad,DE"
            assert found.rejects[0].place == 5


def test_trimmed_ids() -> None:
    with folder_of(log__csv=LOG) as folder:
        found = read_log(make_spec({"where": WHERE, "trim": True}, id_types={"item": "integer"}), folder)
        assert found.rows("item") == [(1,), (5,)]


def test_parquet_rows_and_rows_of_tables() -> None:
    log = pa.table({"user": ["u", "u", "v"], "item": [1, 2, 3], "time": [1, 2, 3], "ok": [True, False, True]})
    items = "id,lang,name\n1,de,Brot\n1,en,bread\n3,en,milk\n"
    table = {
        "files": "items.csv",
        "id": "id",
        "where": {"column": "lang", "one_of": "en"},
        "features": [{"name": "name"}],
    }
    with folder_of(items__csv=items) as folder:
        pq.write_table(log, folder / "log.parquet")
        source = {"files": "log.parquet", "where": {"column": "ok", "one_of": True}}
        data = behavior.prepare_tables(make_spec(source, items=table), folder)
    assert (data.counts.read, data.counts.filtered, data.counts.events) == (3, 1, 2)
    assert data.tables.items.column("id").to_pylist() == [1, 3]
    assert data.tables.vocabularies["name"].column("value").to_pylist() == ["bread", "milk"]


def test_numbers_and_lists_as_they_are_written() -> None:
    log = 'user,item,time,price\nu,1,1,$5\nu,2,2,?\nv,3,3,"1,000"\n'
    price = {"name": "price", "kind": "numeric", "transform": "none", "number_format": "us"}
    items = 'id,tags,size\n1,"[6285, 194]","1.341,5"\n2,[\'x\'],\n3,?,2\n'
    features = [
        {"name": "tags", "kind": "multi_categorical", "literal": True},
        {"name": "size", "kind": "numeric", "transform": "none", "number_format": "eu"},
    ]
    table = {"files": "items.csv", "id": "id", "features": features}
    with folder_of(log__csv=log, items__csv=items) as folder:
        found = read_log(make_spec({"features": [price]}), folder)
        assert found.rows("price") == [(5.0,), (1000.0,)]
        assert found.reasons == [(3, "price '?' is not a number")]
        kept = make_spec({"features": [{**price, "invalid": "missing"}]}, items=table)
        data = behavior.prepare_tables(kept, folder)
    assert data.counts.rejected == 0
    assert data.tables.vocabularies["tags"].column("value").to_pylist() == ["194", "6285", "x"]
    assert data.tables.items.column("size").to_pylist()[0] == 1341.5
    assert [(f.known, f.unread) for f in data.tables.coverage[0].features] == [(2, 1), (2, 0)]
