from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.sources.jsonl import AN_EVENT_EACH, JsonLinesReader
from tests.behavior.logs import few

scalars = (
    st.integers(-(2**70), 2**70)
    | st.integers(0, 9)
    | st.floats()
    | st.floats(0, 5).map(lambda x: round(x, 1))
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
    | st.booleans()
    | st.none()
)
records = st.fixed_dictionaries({}, optional={"user": scalars, "item": scalars, "other": scalars})
junk = st.sampled_from(["", "  ", "{", "[1]", "7", '{"user": 1}{"user": 2}', '{"user": tru}', "null", "}"])


def read(block: bytes, reader: JsonLinesReader | None = None) -> tuple[list[tuple], list[tuple]]:
    raw = (reader or JsonLinesReader(["user", "item"], {}, "utf-8")).read(block)
    columns = (raw.columns[name].to_pylist() for name in ("user", "item"))
    return list(zip(raw.places.tolist(), *columns, strict=True)), sorted(raw.rejects)


def text_of(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if value != value:  # NaN
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return (
        repr(value).removesuffix(".0") if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
    )


def by_hand(lines: list[str]) -> tuple[list[tuple], list[int]]:
    rows, bad = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            rows.append((number, text_of(record.get("user")), text_of(record.get("item"))))
        except (ValueError, AttributeError):
            bad.append(number)
    return rows, bad


@few
@given(st.lists(st.lists(records.map(json.dumps) | junk, max_size=6), min_size=1, max_size=4))
def test_blocks_read_as_json_loads_reads_their_lines(blocks: list[list[str]]) -> None:
    # One reader for all blocks: what it learns from one must not change the next.
    reader = JsonLinesReader(["user", "item"], {}, "utf-8")
    for lines in blocks:
        rows, rejects = read("\n".join(lines).encode(), reader)
        assert (rows, [place for place, _, _ in rejects]) == by_hand(lines)


@few
@given(st.lists(st.tuples(scalars, scalars), min_size=1, max_size=5), st.sampled_from([1.5, 7, "7"]))
def test_the_type_of_the_first_lines_does_not_change_the_text_of_later_ones(values: list, first: Any) -> None:
    reader = JsonLinesReader(["user", "item"], {}, "utf-8")
    read(json.dumps({"user": first, "item": first}).encode(), reader)
    lines = [json.dumps({"user": user, "item": item}) for user, item in values]
    assert read("\n".join(lines).encode(), reader)[0] == by_hand(lines)[0]


def test_what_a_program_wrote_as_nan_is_missing() -> None:
    lines = b'{"user": NaN, "item": 1.5}\n{"user": 2.5, "item": -Infinity}\n{"user": "NaN", "item": "nan"}\n'
    for before in (b"", b'{"user": 1.5, "item": 2.5}\n'):
        reader = JsonLinesReader(["user", "item"], {}, "utf-8")
        if before:
            reader.read(before)
        rows, rejects = read(lines, reader)
        assert rows == [(1, None, "1.5"), (2, "2.5", "-inf"), (3, "NaN", "nan")]
        assert rejects == []
    lists = {"tags": None, "marks": "|", "each": AN_EVENT_EACH}
    raw = JsonLinesReader(list(lists), lists, "utf-8").read(
        b'{"tags": NaN, "marks": NaN, "each": [1, NaN, 2]}\n'
        b'{"tags": [NaN, "a"], "marks": "a|b", "each": [NaN]}\n'
    )
    assert {name: raw.columns[name].to_pylist() for name in lists} == {
        "tags": [None, ["a"]],
        "marks": [None, ["a", "b"]],
        "each": [["1", None, "2"], [None]],
    }


def test_half_of_a_surrogate_pair_is_no_text() -> None:
    rows, rejects = read(b'{"user": "a", "item": "b"}\n{"user": "x\\ud83d", "item": "b"}\n')
    assert rows == [(1, "a", "b")]
    assert [(place, reason) for place, reason, _ in rejects] == [
        (2, "not JSON: a string holds half of a surrogate pair, '\\ud83d'")
    ]


def test_numbers_and_text_are_the_same_id() -> None:
    rows, rejects = read(
        b'{"user": 7, "item": "a"}\n{"user": "7", "item": 2.5}\n{"user": 7.0, "item": true}\n'
    )
    assert rows == [(1, "7", "a"), (2, "7", "2.5"), (3, "7", "true")]
    assert rejects == []


def test_floats_of_milliseconds_and_large_ids_stay_exact() -> None:
    reader = JsonLinesReader(["user", "item"], {}, "utf-8")
    read(b'{"user": 1.5, "item": 1.5}\n', reader)
    rows, _ = read(b'{"user": 1700000000000.0, "item": 9007199254740993}\n', reader)
    assert rows == [(1, "1700000000000", "9007199254740993")]


def test_bad_lines_are_rejected_with_line_reason_and_text_and_blank_ones_are_not() -> None:
    rows, rejects = read(b'{"user": 1}\n\n{"user": \n[1, 2]\r\n{"item": "x"}\n')
    assert rows == [(1, "1", None), (5, None, "x")]
    assert [(place, text) for place, _, text in rejects] == [(3, '{"user":'), (4, "[1, 2]")]
    assert rejects[0][1].startswith("not JSON: ")
    assert rejects[1][1] == "not JSON: not a JSON object"


def test_two_objects_on_a_line_do_not_make_up_for_a_blank_one() -> None:
    rows, rejects = read(b'{"user": "1"}{"user": "2"}\n\n{"user": "3"}\n')
    assert rows == [(3, "3", None)]
    assert [place for place, _, _ in rejects] == [1]


@pytest.mark.parametrize("line", ["null", "7", "[]", '"text"', "true"])
def test_a_line_that_is_json_but_no_object_is_rejected(line: str) -> None:
    # A lone null crashes Arrow's reader: it must never see one.
    rows, rejects = read(f'{line}\n{{"user": "1"}}\n{line}'.encode())
    assert rows == [(2, "1", None)]
    assert rejects == [(n, "not JSON: not a JSON object", line) for n in (1, 3)]


def test_half_a_surrogate_pair_is_no_text() -> None:
    rows, rejects = read(
        b'{"user": "\\ud800", "item": 1}\n{"user": "ok", "item": ["\\ud800"]}\n{"user": 1}\n'
    )
    assert rows == [(3, "1", None)]
    assert [place for place, _, _ in rejects] == [1, 2]


def test_many_lines_with_one_bad_in_the_middle() -> None:
    lines = [f'{{"user": {n}, "item": "i{n}"}}' for n in range(3000)]
    lines[1234] = '{"user": 1234, "item": '
    rows, rejects = read("\n".join(lines).encode())
    assert rows == [(n + 1, str(n), f"i{n}") for n in range(3000) if n != 1234]
    assert [place for place, _, _ in rejects] == [1235]


def test_lists_become_lists_of_text() -> None:
    reader = JsonLinesReader(["genres"], {"genres": "|"}, "utf-8")
    raw = reader.read(
        b'{"genres": ["a", "b"]}\n{"genres": [1, null, 2.5]}\n{"genres": "c"}\n{}\n{"genres": []}\n'
    )
    assert raw.columns["genres"].type == pa.list_(pa.string())
    assert raw.columns["genres"].to_pylist() == [["a", "b"], ["1", "2.5"], ["c"], None, []]


tags = st.sampled_from(["a", "b,c", ",", "", 7, 2.5, True, None])


@few
@given(st.lists(st.lists(tags | st.lists(tags, max_size=3), max_size=6), min_size=1, max_size=4))
def test_text_is_split_where_lists_are_wanted_and_lists_are_not(blocks: list[list]) -> None:
    reader = JsonLinesReader(["tags"], {"tags": ","}, "utf-8")
    for values in blocks:
        found = reader.read("\n".join(json.dumps({"tags": value}) for value in values).encode())
        expected = []
        for value in values:
            if isinstance(value, list):
                expected.append([text_of(entry) for entry in value if entry is not None])
            else:
                text = text_of(value)
                expected.append(None if text is None else text.split(","))
        lists = found.columns["tags"].to_pylist()
        assert [v and [entry for entry in v if entry is not None] for v in lists] == expected


@pytest.mark.parametrize("value", ["a,b", 7])
def test_many_lines_of_one_value_under_a_list(value: Any) -> None:
    lines = [json.dumps({"tags": None if n % 5 == 0 else value}) for n in range(2000)]
    found = JsonLinesReader(["tags"], {"tags": ","}, "utf-8").read("\n".join(lines).encode())
    split = str(value).split(",")
    assert found.columns["tags"].to_pylist() == [None if n % 5 == 0 else split for n in range(2000)]


def test_bytes_that_are_not_text_cost_their_own_line_only() -> None:
    rows, rejects = read(b'{"user": "1"}\n{"user": "\xff"}\n{"user": "3"}\n')
    assert rows == [(1, "1", None), (3, "3", None)]
    assert [(place, reason[:9]) for place, reason, _ in rejects] == [(2, "not utf-8")]
