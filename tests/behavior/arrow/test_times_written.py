from __future__ import annotations

import datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from behavior.arrow.times import join_date_and_time, parse_times, time_problem
from behavior.spec.timestamps import time_format
from tests.behavior.logs import many

PATTERNS = [
    *("%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M:%S %p", "%Y%m%d", "%Y%m%d%H%M%S", "%d-%m-%y"),
    *("%Y/%m/%dT%H:%M:%S.%f", "%a %b %d %H:%M:%S %Y", "%d %B %Y, %H h %M", "%F %T", "%H:%M %d/%m/%Y"),
    *("%Y-%m-%d %H:%M:%S %z", "%Y-%m-%d %H:%M:%S%z", "%d/%m/%Y:%H:%M:%S %z", "100%% %Y-%m-%d"),
]
MOMENTS = st.datetimes(datetime.datetime(1970, 1, 2), datetime.datetime(2068, 12, 30))
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda m: datetime.timezone(datetime.timedelta(minutes=m)))


def microseconds(moment: datetime.datetime) -> int:
    moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    return (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1)


def read(form: str, *texts: object, unit: str = "us") -> list[int | None]:
    ticks, good = parse_times(pa.array(texts), unit, time_format(form))
    return [value if valid else None for value, valid in zip(ticks.to_pylist(), good, strict=True)]


@many
@given(st.sampled_from(PATTERNS), st.lists(MOMENTS, min_size=1, max_size=4), ZONES)
def test_patterns_as_python_reads_them(pattern: str, moments: list[datetime.datetime], zone: object) -> None:
    assert isinstance(zone, datetime.tzinfo)
    texts = [moment.replace(tzinfo=zone).strftime(pattern) for moment in moments]
    long = pattern.replace("%F", "%Y-%m-%d").replace("%T", "%H:%M:%S")
    assert read(pattern, *texts) == [microseconds(datetime.datetime.strptime(text, long)) for text in texts]
    assert read(pattern, *texts, "rubbish", None, unit="s")[-2:] == [None, None]


@many
@given(
    st.integers(-5, 45), st.integers(-2, 16), st.integers(1969, 2030), st.integers(0, 30), st.integers(0, 70)
)
@example(29, 2, 2023, 0, 0)
@example(29, 2, 2024, 24, 0)
def test_what_the_calendar_and_the_clock_lack_is_no_time(
    d: int, m: int, y: int, hour: int, minute: int
) -> None:
    text = f"{d}/{m}/{y} {hour}:{minute:02d}"
    try:
        known = microseconds(datetime.datetime.strptime(text, "%d/%m/%Y %H:%M"))
    except ValueError:
        known = None
    expected = [None if known is None or known < 0 else known]
    assert read("%d/%m/%Y %H:%M", text) == expected
    assert read("dmy", text) == expected


@pytest.mark.parametrize(
    ("form", "text", "iso"),
    [
        ("ymd", "2019/10/01", "2019-10-01"),
        ("ymd", "20151231", "2015-12-31"),
        ("ymd", "20151231T235958", "2015-12-31T23:59:58"),
        ("ymd", "2024.5.1 7:08", "2024-05-01T07:08"),
        ("ymd", "2024-05-01 10:10:00 PM", "2024-05-01T22:10"),
        ("ymd", "2024-05-01 12:10 a.m.", "2024-05-01T00:10"),
        ("ymd", "2024-05-01T10:00:00,25+02:00", "2024-05-01T08:00:00.25"),
        ("ymd", "2019-10-01 00:00:00 UTC", "2019-10-01"),
        ("dmy", "27-04-2015", "2015-04-27"),
        ("dmy", " 27 Apr 2015 09:59 ", "2015-04-27T09:59"),
        ("dmy", "1-September-2015", "2015-09-01"),
        ("mdy", "11/15/2019 9:59:00 AM", "2019-11-15T09:59"),
        ("mdy", "Apr 27, 2015", "2015-04-27"),
        ("mdy", "11/1/2000", "2000-11-01"),
        ("%H%M %d%m%Y", "930 01022015", "2015-02-01T09:30"),
        ("%y%m%d", "691231", None),
        ("dmy", "04/27/2015", None),
        ("dmy", "27-04-15", None),
        ("mdy", "11/15/2019 13:59:00 AM", None),
        ("mdy", "Foo 27, 2015", None),
        ("%Y%m%d", "2015111", None),  # 11 January or 1 November
        ("%Y-%m-%d", "2015-01-01 10:00", None),
    ],
)
def test_known_texts(form: str, text: str, iso: str | None) -> None:
    known = None if iso is None else microseconds(datetime.datetime.fromisoformat(iso))
    assert read(form, text) == [known]
    assert read(form, "rubbish", text, None, text) == [None, known, None, known]


@many
@given(
    st.sampled_from([("epoch_s", 0), ("epoch_ms", 3), ("epoch_us", 6), ("epoch_ns", 9)]),
    st.integers(0, 4_102_444_799_999_999),
    st.sampled_from(["plain", "exponent", "zeros"]),
)
def test_numbers_since_the_epoch_to_the_microsecond(form: tuple[str, int], ticks: int, style: str) -> None:
    name, digits = form
    number = Decimal(ticks).scaleb(digits - 6)
    text = f"{number:E}" if style == "exponent" else f"{number:f}"
    text += "00" if style == "zeros" and "." in text else ""
    if digits == 9 and style == "exponent":
        return  # float64 has not so many digits
    assert read(name, text, "x") == [ticks, None]
    assert read(name, text, unit="s") == [ticks // 1_000_000]


def test_known_numbers() -> None:
    assert read("epoch_s", "1593878903.438", "1.7e+09", " 5 ", "1e400", "-1", "nan", "") == [
        *(1593878903438000, 1700000000000000, 5000000),
        *(None, None, None, None),
    ]
    assert read("epoch_ns", 1700000000123456789, None) == [1700000000123456, None]
    assert read("epoch_ms", 1.5, 2.0, float("nan")) == [1500, 2000, None]
    assert read("ymd", 20151231) == [1451520000000000]


@pytest.mark.parametrize(
    "pattern",
    [
        "%Y-%m",
        "%d.%m",
        "%Y-%m-%d %q",
        "%Y-%m-%d %I:%M",
        "%Y-%m-%d %H %p",
        "%Y %Y-%m-%d",
        "%y %Y-%m-%d",
        "%Y-%m-%d %",
        "day",
    ],
)
def test_patterns_that_are_none(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"has |is none of"):
        time_format(pattern)


def test_utc_and_gmt_are_zones_of_iso_8601() -> None:
    texts = [
        "2019-10-01 00:00:00 UTC",
        "2019-10-01 00:00:00 GMT",
        "2019-10-01T00:00:00Z",
        "2019-10-01",
        "x UTC",
    ]
    known = 1569888000000000
    for several in (texts[:2], texts):
        ticks, good = parse_times(pa.array(several), "iso8601")
        assert ticks.to_pylist() == [known] * good.sum() + [None] * (len(several) - good.sum())
        assert good.tolist() == [text[0] == "2" for text in several]


def test_a_date_and_a_time_of_day() -> None:
    dates = pa.array([datetime.date(2024, 5, 1), None, datetime.date(1970, 1, 1)])
    clocks = pa.array([datetime.time(1, 2, 3), datetime.time(), None])
    joined = join_date_and_time([dates, clocks])
    assert parse_times(joined, "s", time_format("iso8601"))[0].to_pylist() == [1714525323, None, None]
    midnight = join_date_and_time([dates.cast(pa.timestamp("s")), clocks.cast(pa.time32("s"))])
    assert parse_times(midnight, "s", time_format("ymd"))[0].to_pylist() == [1714525323, None, None]
    texts = join_date_and_time([pa.array(["20151231", "20151231"]), pa.array(["930", ""])])
    assert parse_times(texts, "s", time_format("%Y%m%d %H%M"))[0].to_pylist() == [1451554200, None]


def test_problems_name_the_format() -> None:
    assert time_problem(None, "s", time_format("dmy")) == "is not a time of the form dmy"
    assert time_problem(None, "s", time_format("epoch_s")) == "is not a number"
    assert "the year 2106" in time_problem(4_300_000_000, "s", time_format("epoch_s"))
    assert time_problem(-1, "s", time_format("ymd")).endswith("the year 1969, not 1970 to 2099")
