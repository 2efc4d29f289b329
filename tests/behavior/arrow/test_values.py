from __future__ import annotations

import datetime
import math
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.arrow.times import parse_times, time_problem
from behavior.arrow.values import parse_floats, parse_integers, parse_text, shown, why_no_integer
from tests.behavior.logs import many

NUMBERS = """
0 -0 +7 007 0x10 0X1f 1e3 7.0 7.5 .5 5. +1.5 1e400 -1e39 nan NaN -nan inf -inf Infinity abc 1_000 1,5 --1 x
9223372036854775807 9223372036854775808 -9223372036854775808 99999999999999999999 000000000000000000000000007
"""
TIMES = """
2024-02-30T10:00:00Z 2024-2-3T1:0:0Z 2024-02-03 2024-02-03T10:00 2024-02-03T10 2024-02-03T10:00:00.5 20240203
2024-02-03T10:00:00.123456789Z 2024-02-03T10:00:00+02:00 2024-02-03T10:00:00+0200 2024-02-03T24:00:00 x
2024-02-03T10:00:60Z 1700000000 2024-02-03T10:00:00Zjunk 2024-13-01 1969-12-31T23:59:59.999999Z
"""

numberlike = st.one_of(
    st.sampled_from([*NUMBERS.split(), "", " ", " 7 ", "1 2", "\u0663"]),  # the last is a digit of Arabic
    st.integers(-(2**64), 2**64).map(str),
    st.floats().map(repr),
)
timelike = st.one_of(
    st.sampled_from([*TIMES.split(), "", " 2024-02-03", "2024-02-03 10:00"]),
    st.datetimes().map(datetime.datetime.isoformat),
)


# Some a day away from what Python can shift between zones; some around the bounds of what is taken.
MOMENTS = st.datetimes(datetime.datetime(1, 1, 3), datetime.datetime(9999, 12, 28)) | st.datetimes(
    datetime.datetime(1969, 12, 30), datetime.datetime(1970, 1, 2)
)


def values_of(parsed: tuple[pa.Array, np.ndarray]) -> list[tuple[object, bool]]:
    values = parsed[0].to_pylist()
    return [(value if good else None, bool(good)) for value, good in zip(values, parsed[1], strict=True)]


def by_hand(text: str) -> int | None:
    """The whole number that a text stands for, if it is one and fits 64 bits."""
    text = text.strip()
    if not re.fullmatch(r"[+-]?[0-9]+(\.0*)?", text, re.ASCII):
        return None
    number = int(text.split(".")[0])
    return number if -(2**63) <= number < 2**63 else None


@many
@given(st.lists(numberlike, min_size=1, max_size=5))
def test_integers_as_python_reads_them_whatever_stands_beside(texts: list[str]) -> None:
    array = pa.array([text.encode() for text in texts])
    assert values_of(parse_integers(array)) == [(by_hand(text), by_hand(text) is not None) for text in texts]
    assert values_of(parse_integers(array.cast(pa.string()))) == values_of(parse_integers(array))


def float_by_hand(text: str) -> tuple[float | None, bool]:
    text = text.strip()
    if text.lower() in ("", "nan"):
        return None, True
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", text, re.ASCII | re.IGNORECASE):
        return None, False
    with np.errstate(over="ignore"):
        number = float(np.float32(text))
    return (number, True) if math.isfinite(number) else (None, False)


@many
@given(st.lists(numberlike, min_size=1, max_size=5))
def test_floats_as_numpy_reads_them_whatever_stands_beside(texts: list[str]) -> None:
    array = pa.array([text.encode() for text in texts])
    assert values_of(parse_floats(array)) == [float_by_hand(text) for text in texts]


@many
@given(st.lists(timelike, min_size=1, max_size=4))
def test_times_are_read_alike_whatever_stands_beside(texts: list[str]) -> None:
    together = values_of(parse_times(pa.array(texts), "iso8601"))
    assert together == [values_of(parse_times(pa.array([text]), "iso8601"))[0] for text in texts]


@many
@given(MOMENTS, st.sampled_from(["", "Z", "+02:00", "-0930", "+14"]), st.sampled_from("T "))
def test_iso_times_as_datetime_reads_them(moment: datetime.datetime, zone: str, separator: str) -> None:
    text = moment.isoformat(separator) + zone
    known = datetime.datetime.fromisoformat(text)
    known = known if zone else known.replace(tzinfo=datetime.UTC)
    since = known - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    ticks = since // datetime.timedelta(microseconds=1)
    ticks_of, good = parse_times(pa.array([text.encode()]), "iso8601")
    assert ticks_of.to_pylist() == [ticks]
    assert good.tolist() == [1970 <= known.astimezone(datetime.UTC).year < 2100]


def test_known_instants() -> None:
    texts = [
        "1970-01-01T00:00:01Z",
        "2000-12-31T22:12:40",
        "2001-01-01T00:12:40+02:00",
        "1969-12-31T23:59:59.5Z",
    ]
    expected = [1_000_000, 978_300_760_000_000, 978_300_760_000_000, -500_000]
    assert parse_times(pa.array(texts), "iso8601")[0].to_pylist() == expected


def test_arrow_times_beyond_all_bounds_do_not_wrap_around() -> None:
    for unit in ("s", "ms", "us", "ns"):
        times = pa.array([2**62, -(2**62), 2**63 - 1, 5], pa.timestamp(unit))
        for wanted in ("s", "ms", "us"):
            ticks, good = parse_times(times, wanted)
            low_end = unit == "ns"  # 2**62 ns is the year 2116
            assert good.tolist() == [False, False, False, True]
            assert low_end or ticks[0].as_py() > 4_102_444_800
            assert ticks[1].as_py() < 0
    assert parse_times(pa.array([2**31 - 1, -(2**31)], pa.date32()), "us")[1].tolist() == [False, False]


def test_types_that_do_not_become_text_by_a_cast() -> None:
    fixed = pa.array([b"ab", b"\xff\xff", None], pa.binary(2))
    assert values_of(parse_text(fixed)) == [("ab", True), (None, False), (None, False)]
    spans = pa.array([datetime.timedelta(seconds=5), None])
    assert parse_text(spans)[1].tolist() == [True, False]
    assert parse_integers(fixed)[1].tolist() == [False, False, False]


@pytest.mark.parametrize(
    "text", ["2024-02-30T10:00:00Z", "2024-2-3T1:0:0Z", "2024-13-01", "1700000000", "", "noon"]
)
def test_texts_that_are_no_time(text: str) -> None:
    assert values_of(parse_times(pa.array([text]), "iso8601")) == [(None, False)]


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_numbers_are_times_in_their_unit(unit: str) -> None:
    expected = [(978300760, True), (None, False), (None, False), (7, True)]
    assert values_of(parse_times(pa.array(["978300760", "-5", "7.5", "7.0"]), unit)) == expected
    assert values_of(parse_times(pa.array([978300760.0, -5.0, 7.5, 7.0]), unit)) == expected
    assert parse_times(pa.array(["-5", "x"]), unit)[0].to_pylist() == [-5, None]


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("iso8601", 10**6)])
def test_times_from_1970_up_to_2100_are_good(unit: str, factor: int) -> None:
    first, last = 0, 4_102_444_800 * factor - 1
    if unit == "iso8601":
        texts = [
            "1970-01-01T00:00:00Z",
            "2099-12-31T23:59:59.999999Z",
            "1969-12-31T23:59:59.999999Z",
            "2100-01-01",
        ]
        array = pa.array(texts)
    else:
        array = pa.array([first, last, first - 1, last + 1])
    ticks, good = parse_times(array, unit)
    assert ticks.to_pylist() == [first, last, first - 1, last + 1]
    assert good.tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("value", "unit", "problem"),
    [
        (1_700_000_000_000, "s", "is out of range: the year 55,840 in s; is timestamp_unit right?"),
        (1_700_000_000_000_000, "ms", "is out of range: the year 55,840 in ms; is timestamp_unit right?"),
        (-1, "us", "is out of range: the year 1969 in us; is timestamp_unit right?"),
        (4_102_444_800, "s", "is out of range: the year 2100 in s; is timestamp_unit right?"),
        (4_102_444_800_000_000, "iso8601", "is out of range: the year 2100, not 1970 to 2099"),
        (-(2**63), "s", "is out of range: the year -292,277,022,657 in s; is timestamp_unit right?"),
        (2**63 - 1, "s", "is out of range: the year 292,277,026,596 in s; is timestamp_unit right?"),
        (None, "s", "is not a whole number"),
        (None, "iso8601", "is not an ISO 8601 time"),
    ],
)
def test_what_is_wrong_with_a_time_in_words(value: int | None, unit: str, problem: str) -> None:
    assert time_problem(value, unit) == problem


@pytest.mark.parametrize(
    "text", ["9223372036854775808", "-9223372036854775809", " 1e3", "12.5", "", "x" * 30]
)
def test_why_a_text_is_no_integer(text: str) -> None:
    array = pa.array([text])
    assert not parse_integers(array)[1].any()
    found = why_no_integer(shown(array, 0))
    assert (found == "is a whole number of more than 64 bits") == text.lstrip("-").isdigit()


def test_values_as_messages_show_them() -> None:
    assert [shown(pa.array([b"a", b"\xff", b"", None]), row) for row in range(4)] == [
        "'a'",
        "'\\\\xff'",
        "(empty)",
        "(empty)",
    ]
    assert shown(pa.array([7]), 0) == "7"
    assert len(shown(pa.array(["x" * 1000]), 0)) == 200
    assert shown(pa.array([10**17], pa.timestamp("us")), 0).startswith("datetime.datetime(5138")
    assert "out of range" in shown(pa.array([10**18], pa.timestamp("us")), 0)


def test_arrow_timestamps_and_dates() -> None:
    zoned = pa.array([0, 1500, None], pa.timestamp("ms", tz="America/New_York"))
    assert values_of(parse_times(zoned, "s")) == [(0, True), (1, True), (None, False)]
    assert values_of(parse_times(zoned, "us")) == [(0, True), (1_500_000, True), (None, False)]
    assert values_of(parse_times(pa.array([datetime.date(1970, 1, 2)]), "ms")) == [(86_400_000, True)]


def test_numbers_of_all_arrow_types() -> None:
    assert values_of(parse_integers(pa.array([1, None, 2**63], pa.uint64()))) == [
        (1, True),
        (None, False),
    ] * 1 + [(None, False)]
    floats = pa.array([1.0, 1.5, math.nan, math.inf, 2.0**63, -(2.0**53), None])
    assert [value for value, _ in values_of(parse_integers(floats))] == [
        1,
        None,
        None,
        None,
        None,
        -(2**53),
        None,
    ]
    assert values_of(parse_floats(floats)) == [
        (1.0, True),
        (1.5, True),
        (None, True),
        (None, False),
        (2.0**63, True),
        (-(2.0**53), True),
        (None, True),
    ]
    assert values_of(parse_floats(pa.array([1, None], pa.int8()))) == [(1.0, True), (None, True)]


def test_text_of_all_types() -> None:
    assert values_of(parse_text(pa.array([b"a", b"", None, b"\xff"]))) == [
        ("a", True),
        (None, False),
        (None, False),
        (None, False),
    ]
    assert values_of(parse_text(pa.array([7, None]))) == [("7", True), (None, False)]
    assert values_of(parse_text(pa.array([7.0, 7.5]))) == [("7", True), (None, False)]
    assert values_of(parse_text(pa.array(["a", "b"]))) == [("a", True), ("b", True)]
    assert values_of(parse_text(pa.array([], pa.string()))) == []
