from __future__ import annotations

import gzip
import json
import re
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.sources import read
from behavior.spec.dataset_spec import DatasetSpec
from tests.behavior.logs import few, folder_of, in_blocks_of, make_spec, read_log, untimed_spec

# Letters that mean something to one of the readers come often.
torn = st.lists(
    st.sampled_from(
        [b"user,item,time\n", b"1,2,3\n", b'"', b",", b"\n", b"\r\n", b"\r", b"\xff", b"\x00", b" 7 "]
    )
    | st.sampled_from(
        [b'{"user": 1, "item": "\\ud800", "time": 3}\n', b'{"user": 1, "item": 2, "time": 3}\n']
    )
    | st.sampled_from([b"{", b"}", b"[", b"1e400", b"0x10", b"nan", b"\xef\xbb\xbf", b"\x1f", b"a b c\n"])
    | st.binary(max_size=6),
    max_size=12,
).map(b"".join)


@few
@given(torn, st.sampled_from(["csv", "jsonl", "sequences"]), st.integers(1, 40), st.integers(1, 40))
def test_no_bytes_break_a_reader_and_counts_add_up(data: bytes, kind: str, chunk: int, block: int) -> None:
    if kind == "sequences":
        spec = untimed_spec({"files": "log.csv", "format": kind, "columns": {}})
    else:
        behavior = {"rules": [{"when": "value >= 3", "name": "like"}]}
        columns = {"user": "user", "item": "item", "timestamp": "time", "value": "time"}
        spec = make_spec({"format": kind, "columns": columns, "behavior": behavior})
    readings = []
    for sizes in ((chunk, block), (1 << 20, 1 << 20)):
        with (
            folder_of(log__csv=data) as folder,
            mock.patch.object(read, "iter_blocks", in_blocks_of(sizes[1])),
        ):
            try:
                got = read_log(spec, folder, sizes[0])
            except UserError as error:
                readings.append(str(error).replace(str(folder), ""))
                continue
        assert got.read == got.events.num_rows + len(got.rejects) + got.filtered
        readings.append((got.events.to_pylist(), sorted(got.reasons), got.filtered))
    assert readings[0] == readings[1]


@few
@given(st.binary(max_size=200), st.sampled_from(["log.csv.gz", "log.csv.zst", "log.parquet", "log.jsonl"]))
def test_binary_rubbish_under_any_name(data: bytes, name: str) -> None:
    with folder_of(**{name.replace(".", "__"): data}) as folder:
        try:
            got = read_log(make_spec({"files": name}), folder)
        except UserError:
            return
        assert got.read == got.events.num_rows + len(got.rejects) + got.filtered


def test_windows_line_ends_byte_order_mark_quotes_and_blank_lines() -> None:
    text = '\ufeffuser,item,time\r\n"1","a,b",10\r\n\r\n2,"say ""hi""",20'
    with folder_of(log__csv=text) as folder:
        got = read_log(make_spec(), folder)
    assert got.rows("user", "item", "timestamp") == [("1", "a,b", 10), ("2", 'say "hi"', 20)]
    assert (got.read, got.rejects) == (2, [])


@pytest.mark.parametrize("chunk_bytes", [3, 14, 15, 16, 20, 1 << 20])
def test_line_numbers_count_the_header_whatever_the_chunks(chunk_bytes: int) -> None:
    with folder_of(log__csv="user,item,time\n1,2,3\n\n4,5,x\n6,7\n8,9,10\n") as folder:
        got = read_log(make_spec(), folder, chunk_bytes)
    assert got.rows("user", "item", "timestamp") == [("1", "2", 3), ("8", "9", 10)]
    assert got.reasons == [
        (4, "timestamp 'x' is not a whole number"),
        (5, "2 fields where 3 are expected"),
    ]
    assert [reject.file for reject in got.rejects] == ["log.csv", "log.csv"]
    assert json.loads(got.rejects[0].to_json()) == {
        "file": "log.csv",
        "line": 4,
        "reason": "timestamp 'x' is not a whole number",
        "text": "4,5,x",
    }


def test_compressed_logs_read_alike() -> None:
    log = b"user,item,time\n1,2,3\n4,5,6\n"
    with folder_of(log__csv=log, log__csv__gz=gzip.compress(log)) as folder:
        plain = read_log(make_spec(), folder)
        packed = read_log(make_spec({"files": "log.csv.gz"}), folder)
    assert packed.events == plain.events


def test_the_first_reason_of_a_row_counts_and_a_row_is_rejected_once() -> None:
    with folder_of(log__csv="user,item,time\n,,x\n1,,x\n") as folder:
        got = read_log(make_spec(), folder)
    assert got.reasons == [(2, "user (empty) is not an id"), (3, "item (empty) is not an id")]
    assert (got.read, got.filtered) == (2, 0)


def test_integer_ids_are_whole_numbers() -> None:
    with folder_of(
        log__csv="user,item,time\n007, 5 ,3\n1.5,2,3\n1,0x2,3\n9999999999999999999,2,3\n"
    ) as folder:
        got = read_log(make_spec(id_types={"user": "integer", "item": "integer"}), folder)
    assert got.rows("user", "item") == [(7, 5)]
    assert [reason for _, reason in got.reasons] == [
        "user '1.5' is not a whole number",
        "item '0x2' is not a whole number",
        "user '9999999999999999999' is a whole number of more than 64 bits",
    ]


@pytest.mark.parametrize(
    ("unit", "text", "ticks"),
    [
        ("s", "978300760", 978300760),
        ("ms", "978300760123", 978300760123),
        ("us", "978300760123456", 978300760123456),
        ("iso8601", "2000-12-31T22:12:40Z", 978300760000000),
        ("iso8601", "2000-12-31 22:12:40.5", 978300760500000),
        ("iso8601", "2001-01-01T00:12:40+02:00", 978300760000000),
    ],
)
def test_timestamps(unit: str, text: str, ticks: int) -> None:
    with folder_of(log__csv=f"user,item,time\n1,2,{text}\n1,2,noon\n") as folder:
        got = read_log(make_spec(timestamp_unit=unit), folder)
    assert got.rows("timestamp") == [(ticks,)]
    [(line, reason)] = got.reasons
    assert line == 3
    assert re.match("timestamp 'noon' is not (a whole number|an ISO 8601 time)$", reason)


def test_a_constant_behavior() -> None:
    with folder_of(log__csv="user,item,time\n1,2,3\n") as folder:
        assert read_log(make_spec({"behavior": "buy"}), folder).rows("behavior") == [(1,)]


def column_spec(**changes: Any) -> DatasetSpec:
    columns = {"user": "user", "item": "item"}
    source = {"columns": columns, "behavior": {"column": "what", **changes.pop("behavior", {})}}
    return untimed_spec(source, **{"behaviors": ["fav", "cart", "buy"], **changes})


def test_behaviors_of_a_column_with_renaming_filtering_and_rejecting() -> None:
    log = "user,item,what\n1,1,buy\n1,2,pv\n1,3,4\n1,4,crat\n1,5,\n1,6,fav\n"
    with folder_of(log__csv=log) as folder:
        got = read_log(column_spec(behavior={"map": {"4": "cart", "pv": None}}), folder)
    assert got.rows("item", "behavior") == [("1", 3), ("3", 2), ("6", 1)]
    assert (got.read, got.filtered) == (6, 1)
    assert got.reasons == [
        (5, "behavior 'crat' is not in the spec; did you mean 'cart'?"),
        (6, "behavior (empty) is not in the spec; known: 4, buy, cart, fav, pv."),
    ]


def test_only_some_behaviors_kept() -> None:
    with folder_of(log__csv="user,item,what\n1,1,buy\n1,2,fav\n1,3,cart\n,4,fav\n") as folder:
        got = read_log(column_spec(filters={"behaviors": ["buy", "cart"]}), folder)
    assert got.rows("item", "behavior") == [("1", 3), ("3", 2)]
    assert (got.read, got.filtered, got.reasons) == (4, 1, [(5, "user (empty) is not an id")])


RULES = [
    {"when": "value >= 4.1", "name": "like"},
    {"when": "value != 3", "name": "see"},
    {"when": "value == 3", "name": "meh"},
]


@pytest.mark.parametrize("otherwise", [None, "none"])
def test_rules_on_the_value_first_one_wins_and_a_missing_value_satisfies_none(otherwise: str | None) -> None:
    behavior = {"rules": RULES, **({"otherwise": otherwise} if otherwise else {})}
    spec = untimed_spec({"columns": {"user": "user", "item": "item", "value": "stars"}, "behavior": behavior})
    log = "user,item,stars\n1,a,4.1\n1,b,4\n1,c,3\n1,d,\n1,e,nan\n1,f,five\n1,g,inf\n"
    with folder_of(log__csv=log) as folder:
        got = read_log(spec, folder)
    rest = [("d", 4), ("e", 4)] if otherwise else []
    assert got.rows("item", "behavior") == [("a", 1), ("b", 2), ("c", 3), *rest]
    assert got.filtered == 2 - len(rest)
    assert got.reasons == [(7, "value 'five' is not a number"), (8, "value 'inf' is not a number")]
    np.testing.assert_array_equal(got.events.column("value")[:3], np.float32([4.1, 4, 3]))


@few
@given(
    st.lists(st.floats(-5, 5, width=32).map(lambda x: round(x, 1)), min_size=1, max_size=6),
    st.lists(
        st.tuples(st.sampled_from([">=", "<=", "==", "!=", ">", "<"]), st.integers(-50, 50)),
        min_size=1,
        max_size=3,
    ),
)
def test_rules_against_plain_python(values: list[float], rules: list[tuple[str, int]]) -> None:
    compare = {">=": "__ge__", "<=": "__le__", "==": "__eq__", "!=": "__ne__", ">": "__gt__", "<": "__lt__"}
    behavior = {
        "rules": [
            {"when": f"value {mark} {tenths / 10}", "name": f"b{n}"} for n, (mark, tenths) in enumerate(rules)
        ],
        "otherwise": "rest",
    }
    spec = untimed_spec({"columns": {"user": "u", "item": "i", "value": "v"}, "behavior": behavior})
    with folder_of(log__csv="u,i,v\n" + "".join(f"1,1,{value}\n" for value in values)) as folder:
        got = [number for (number,) in read_log(spec, folder).rows("behavior")]
    for value, number in zip(values, got, strict=True):
        holds = [getattr(round(value, 1), compare[mark])(tenths / 10) for mark, tenths in rules]
        assert number == (holds.index(True) if True in holds else len(rules)) + 1


def test_domains_by_file_and_by_column() -> None:
    columns = {"user": "user", "item": "item"}
    sources = [
        {"files": "a.csv", "columns": columns, "domain": "books"},
        {"files": "b.csv", "columns": columns, "domain": "toys"},
    ]
    spec = DatasetSpec(name="two", events=sources, timestamp_unit="none")
    with folder_of(a__csv="user,item\n1,2\n", b__csv="user,item\n1,3\n") as folder:
        assert read_log(spec, folder).rows("item", "domain") == [("2", 1), ("3", 2)]
    spec = untimed_spec({"columns": {**columns, "domain": "where"}}, domains=["toys", "books"])
    with folder_of(log__csv="user,item,where\n1,2,books\n1,3,toyz\n") as folder:
        got = read_log(spec, folder)
    assert got.rows("item", "domain") == [("2", 2)]
    assert got.reasons == [(3, "domain 'toyz' is not in the spec; did you mean 'toys'?")]


def test_a_file_may_serve_two_groups_of_events() -> None:
    columns = {"user": "user", "item": "item"}
    sources = [{"files": "log.csv", "columns": columns, "behavior": name} for name in ("see", "buy")]
    spec = DatasetSpec(name="two", events=sources, timestamp_unit="none")
    with folder_of(log__csv="user,item\n1,2\n1\n") as folder:
        got = read_log(spec, folder)
    assert got.rows("item", "behavior") == [("2", 1), ("2", 2)]
    assert [line for line, _ in got.reasons] == [3, 3]


def test_json_lines_with_missing_keys_mixed_types_and_bad_lines() -> None:
    log = """{"user": 1, "item": "a", "time": 5}
{"user": "1", "item": 7, "time": "6"}

{"user": 2, "time": 7}
{"user
"""
    with folder_of(log__jsonl=log) as folder:
        got = read_log(make_spec({"files": "log.jsonl"}), folder)
    assert got.rows("user", "item", "timestamp") == [("1", "a", 5), ("1", "7", 6)]
    assert [(line, reason[:9]) for line, reason in got.reasons] == [
        (4, "item (emp"),
        (5, "not JSON:"),
    ]


def test_one_user_a_line() -> None:
    spec = untimed_spec(
        {"files": "log.txt", "format": "sequences", "columns": {}}, id_types={"item": "integer"}
    )
    with folder_of(log__txt="u1 3 1 x 2\nu2\n\nu1 9\n") as folder:
        got = read_log(spec, folder, 5)
    assert got.rows("user", "item") == [("u1", 3), ("u1", 1), ("u1", 2), ("u1", 9)]
    assert got.reasons == [(1, "item 'x' is not a whole number"), (2, "a user without items")]
    assert got.read == 6
