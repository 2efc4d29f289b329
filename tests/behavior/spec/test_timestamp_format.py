from __future__ import annotations

from typing import Any

import pytest

from behavior.errors import UserError
from behavior.spec.dataset_spec import load_spec
from tests.behavior.logs import folder_of, make_spec, read_log

PAIR = {"user": "user", "item": "item", "timestamp": ["date", "time"]}


def test_the_format_of_a_group_before_that_of_the_spec() -> None:
    columns = {"user": "user", "item": "item", "timestamp": "time"}
    groups = [
        {"files": "a.csv", "columns": columns, "timestamp_format": "epoch_ms"},
        {"files": "b.csv", "columns": columns},
    ]
    spec = make_spec(None, events=groups, timestamp_format="%d.%m.%Y %H:%M")
    with folder_of(
        a__csv="user,item,time\n1,1,1500.5\n", b__csv="user,item,time\n1,2,01.01.1970 00:01\n1,3,noon\n"
    ) as folder:
        got = read_log(spec, folder)
    assert got.rows("item", "timestamp") == [("1", 1), ("2", 60)]
    assert got.reasons == [(3, "timestamp 'noon' is not a time of the form %d.%m.%Y %H:%M")]


def test_date_and_time_in_two_columns() -> None:
    spec = make_spec({"columns": PAIR}, timestamp_format="ymd")
    log = "user,item,date,time\n1,1,1970/01/02,00:01\n1,2,1970/01/02,\n1,3,,00:01\n"
    with folder_of(log__csv=log) as folder:
        got = read_log(spec, folder)
    assert got.rows("timestamp") == [(86_460,)]
    assert [line for line, _ in got.reasons] == [3, 4]


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        ({}, {"timestamp_format": "%Y-%m"}, "timestamp_format': has no day"),
        ({"timestamp_format": "usual"}, {}, "is none of epoch_s, .* and no pattern"),
        ({"columns": PAIR}, {}, "two columns are text: set timestamp_format"),
        ({"columns": PAIR}, {"timestamp_format": "epoch_s"}, "two columns are text: set timestamp_format"),
        ({"columns": PAIR | {"timestamp": ["date", "date"]}}, {}, "name one column, or two"),
        (
            {"columns": {"user": "u", "item": "i"}},
            {"timestamp_unit": "none", "timestamp_format": "ymd"},
            "is none",
        ),
    ],
)
def test_what_does_not_go_together(source: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_spec(source, **changes)


def test_specs_without_a_format_keep_their_digest(tmp_path: Any) -> None:
    # As written into the manifests of data sets that may be extended.
    known = {"ml-1m": "f88e0dc1", "yelp": "d89a89f3", "amazon-beauty": "94f552d3", "retailrocket": "f4342327"}
    for name, digest in known.items():
        assert load_spec(name, input_folder=tmp_path)[0].digest()[:8] == digest
    assert make_spec().digest() != make_spec(timestamp_format="epoch_s").digest()


def test_times_out_of_range_are_rejected_where_the_filters_do_not_leave_them_out() -> None:
    log = "user,item,time\n1,1,-5\n1,2,50\n1,3,150\n1,4,99999999999\n"
    for filters in ({}, {"start": 100}, {"end": 1000}, {"start": 100, "end": 1000}):
        with folder_of(log__csv=log) as folder:
            got = read_log(make_spec(filters=filters), folder)
        low, high = "start" in filters, "end" in filters
        assert [line for line, _ in got.reasons] == [2] * (not low) + [5] * (not high)
        assert got.filtered == 2 * low + high
