"""Keys of JSON objects within objects, by both readers; lists in place of values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import behavior
from behavior.errors import UserError
from behavior.sources.jsonl import JsonLinesReader
from tests.behavior.logs import folder_of, make_spec, many, read_log

scalars = st.none() | st.sampled_from(["x", 1, 2.5, True])
records = st.fixed_dictionaries(
    {},
    optional={
        "a": scalars | st.fixed_dictionaries({}, optional={"b": scalars, "c d": scalars}),
        "a.b": scalars,
        "e": st.fixed_dictionaries({}, optional={"f": st.fixed_dictionaries({}, optional={"g": scalars})}),
    },
)
NAMES = ["a.b", "a.c d", "e.f.g"]


def text(value: Any) -> str | None:
    if value is None:
        return None
    return json.dumps(value) if isinstance(value, bool) else str(value)


def by_hand(record: dict[str, Any], name: str) -> str | None:
    value = record.get(name)
    if value is None:
        value = record
        for key in name.split("."):
            value = value.get(key) if isinstance(value, dict) else None
    return text(value)


@many
@given(st.lists(records, min_size=1, max_size=6), st.booleans())
def test_paths_of_keys_against_plain_python(lines: list[dict[str, Any]], whole: bool) -> None:
    names = ["a", *NAMES] if whole else NAMES
    reader = JsonLinesReader(names, {}, "utf-8")
    block = "".join(json.dumps(line) + "\n" for line in lines).encode()
    for _ in range(2):  # the second time by the schema that was learned
        batch = reader.read(block)
        for name in NAMES:
            assert batch.columns[name].to_pylist() == [by_hand(line, name) for line in lines]


def test_features_of_nested_keys() -> None:
    items = '{"id": "a", "attributes": {"Price Range": "2"}, "tags": ["x", "y"]}\n'
    table = {"files": "items.jsonl", "id": "id"}
    feature = {"name": "price", "column": "attributes.Price Range"}
    log = '{"who": {"id": "u"}, "item": "a", "time": 1}\n'
    source = {
        "files": "log.jsonl",
        "columns": {"user": "who.id", "item": "item", "timestamp": "time"},
    }
    with folder_of(log__jsonl=log, items__jsonl=items) as folder:
        data = behavior.prepare_tables(make_spec(source, items={**table, "features": [feature]}), folder)
        assert data.sequences.column("user").to_pylist() == ["u"]
        assert data.tables.vocabularies["price"].column("value").to_pylist() == ["2"]
        wrong = {**table, "features": [{"name": "tags"}]}
        with pytest.raises(UserError, match=r"'tags' is a list, not one value(\n.*)*multi_categorical"):
            behavior.prepare_tables(make_spec(source, items=wrong), folder)


def test_a_list_in_place_of_an_id_or_a_value_of_an_event() -> None:
    log = '{"user": "u", "item": [1], "time": 1}\n{"user": "u", "item": 1, "time": 1, "place": ["x"]}\n'
    source = {"files": "log.jsonl", "features": [{"name": "place"}]}
    with folder_of(log__jsonl=log) as folder:
        found = read_log(make_spec(source), folder)
    assert found.reasons == [(1, "'item' is a list, not one value"), (2, "'place' is a list, not one value")]
