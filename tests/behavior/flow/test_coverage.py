"""How many values of tables and features are found: counted, stored, and an error where there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import behavior
from behavior.errors import UserError
from behavior.features.coverage import merged_coverage
from behavior.shards.manifest import Coverage, FeatureCoverage
from behavior.summary.tables import coverage_table
from tests.behavior.logs import folder_of, make_spec

LOG = "user,item,time,price\nu,1,1,5\nu,2,2,\nv,3,3,7\nv,1,4,\n"
FEATURES = [{"name": "color"}, {"name": "size", "kind": "numeric"}]
TABLE = {"files": "items.csv", "id": "id", "features": FEATURES}


def coverage_of(folder: Path, **changes: Any) -> list[Coverage]:
    return behavior.prepare(make_spec(**changes), folder / "out", folder).manifest.coverage


def test_rows_and_values_are_counted() -> None:
    items = "id,color,size\n1,red,4\n2,,$5\n9,blue,6\n"
    price = {"features": [{"name": "price", "kind": "numeric"}]}
    with folder_of(log__csv=LOG, items__csv=items) as folder:
        events, table = coverage_of(folder, source=price, items=TABLE)
        shards = behavior.open_shards(folder / "out")
    assert events.model_dump() == {
        "table": "events",
        "number": 1,
        "of": 4,
        "found": 4,
        "features": [{"name": "price", "known": 2, "unread": 0, "example": ""}],
    }
    assert (table.table, table.number, table.of, table.found) == ("items", 1, 3, 2)
    assert [(f.name, f.known, f.unread, f.example) for f in table.features] == [
        ("color", 1, 0, ""),
        ("size", 1, 1, "'$5'"),
    ]
    shown = coverage_table(shards.manifest)
    assert shown is not None
    assert shown.rows == [
        ("events 1: price", 2, 4, "50.0%", ""),
        ("items 1: rows", 2, 3, "66.7%", ""),
        ("items 1: color", 1, 2, "50.0%", ""),
        ("items 1: size", 1, 2, "50.0%", "1, such as '$5'"),
    ]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (
            "id,color,size\n1.0,red,4\n2.0,blue,5\n",
            r"none of the 3 items .* have a row .*'1', of the table such as '1.0'",
        ),
        ("id,color,size\n1.0,red,4\n", r"id_types: \{item: integer\} reads '1.0' as a whole number"),
        ("id,color,size\n,red,4\n", "the table has no ids"),
        ("id,color,size\n1,,4\n", "none of the 1 item that has a row has a value of 'color'"),
        ("id,color,size\n1,red,$4\n2,red,1e\n", "value of 'size'; 2 could not be read, such as '\\$4'"),
    ],
)
def test_a_table_or_feature_without_a_value_is_an_error(items: str, message: str) -> None:
    with folder_of(log__csv=LOG, items__csv=items) as folder:
        with pytest.raises(UserError, match=message):
            coverage_of(folder, items=TABLE)
        [table] = coverage_of(folder, items=TABLE, min_coverage=0)
        assert 0 in (table.found, *(feature.known for feature in table.features))


def test_a_misspelt_key_of_a_json_table_names_those_that_are_there() -> None:
    table = {**TABLE, "files": "items.jsonl"}
    keys = r"value of 'color' \(its lines have the keys: colour, id, size\)"
    line = '{"id": 1, "colour": "red", "size": 2}\n'
    with folder_of(log__csv=LOG, items__jsonl=line) as folder, pytest.raises(UserError, match=keys):
        coverage_of(folder, items=table)


@pytest.mark.parametrize("column", ["value", "feature"])
def test_a_column_of_events_without_a_value_is_an_error(column: str) -> None:
    log = LOG.replace(",5\n", ",\n").replace(",7\n", ",\n")
    columns = {"user": "user", "item": "item", "timestamp": "time"}
    source: dict[str, Any] = {"columns": columns, "features": [{"name": "price"}]}
    if column == "value":
        source = {"columns": columns | {"value": "price"}}
    with folder_of(log__csv=log) as folder:
        with pytest.raises(UserError, match=r"none of the 4 events have a value of '(price|value)'"):
            coverage_of(folder, source=source)
        assert coverage_of(folder, source=source, min_coverage=0)[0].features[0].known == 0


def test_the_least_coverage_is_a_setting() -> None:
    items = "id,color,size\n1,red,4\n2,red,5\n"
    with folder_of(log__csv=LOG, items__csv=items) as folder:
        with pytest.raises(UserError, match="only 2 of 3 items of the log have a row"):
            coverage_of(folder, items=TABLE, min_coverage=0.7)
        assert coverage_of(folder, items=TABLE, min_coverage=0.6)[0].found == 2


def test_events_that_are_added_add_up() -> None:
    table = Coverage(table="items", number=1, of=9, found=9, features=[])
    old = [_events(1, 4, 2), _events(2, 8, 8), table]
    merged = merged_coverage(old, [_events(2, 2, 1), table.model_copy(update={"of": 10})])
    assert merged == [_events(1, 4, 2), _events(2, 10, 9), table.model_copy(update={"of": 10})]


def _events(number: int, of: int, known: int) -> Coverage:
    price = FeatureCoverage(name="price", known=known)
    return Coverage(table="events", number=number, of=of, found=of, features=[price])


def test_records_of_specs_of_before_stay() -> None:
    """A setting that came later changes no digest while it is at its default."""
    assert "min_coverage" not in make_spec().record()
    assert make_spec(min_coverage=0.5).record()["min_coverage"] == 0.5
    assert make_spec(min_coverage=0.5).digest() == make_spec().digest()
