"""What `lrm inspect` proposes, `lrm prepare` reads from the same file, to the same instants; or it asks."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.guess.files import guess_file
from behavior.guess.times import written_as
from behavior.spec.dataset_spec import load_spec
from behavior.spec.rules import TICKS_PER_SECOND
from tests.behavior.logs import few, folder_of, read_log

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MICROSECOND = datetime.timedelta(microseconds=1)
Moment = datetime.datetime


def ticks(moment: Moment) -> int:
    return (moment.replace(tzinfo=datetime.UTC) - EPOCH) // MICROSECOND


def strf(pattern: str) -> Callable[[Moment], str]:
    return lambda moment: moment.strftime(pattern)


def loose(pattern: str) -> Callable[[Moment], str]:
    """Without leading zeros of day, month and hour."""
    return lambda m: pattern.format(m=m, hour=(m.hour - 1) % 12 + 1, half=m.strftime("%p"))


SECOND, MINUTE, DAY = 10**6, 60 * 10**6, 86_400 * 10**6
SHAPES: dict[str, tuple[Callable[[Moment], Any], int]] = {
    "epoch s": (lambda m: ticks(m) // SECOND, SECOND),
    "epoch ms": (lambda m: ticks(m) // 1000, 1000),
    "epoch us": (ticks, 1),
    "epoch ns": (lambda m: ticks(m) * 1000 + 789, 1),
    "epoch s, fraction": (lambda m: f"{ticks(m) // SECOND}.{ticks(m) // 1000 % 1000:03d}", 1000),
    "epoch s, exponent": (lambda m: f"{ticks(m) // SECOND:.9e}", SECOND),
    "epoch ms, fraction": (lambda m: f"{ticks(m) // 1000}.5", 1000),
    "iso": (lambda m: m.isoformat(), 1),
    "iso date": (strf("%Y-%m-%d"), DAY),
    "iso Z": (lambda m: m.isoformat() + "Z", 1),
    "utc": (strf("%Y-%m-%d %H:%M:%S UTC"), SECOND),
    "ymd slashes": (strf("%Y/%m/%d %H:%M:%S"), SECOND),
    "ymd compact": (strf("%Y%m%d"), DAY),
    "ymd compact, number": (lambda m: int(m.strftime("%Y%m%d")), DAY),
    "ymd am pm": (strf("%Y-%m-%d %I:%M:%S %p"), SECOND),
    "dmy": (strf("%d-%m-%Y"), DAY),
    "dmy dots": (strf("%d.%m.%Y %H:%M"), MINUTE),
    "mdy loose": (loose("{m.month}/{m.day}/{m.year} {hour}:{m:%M:%S} {half}"), SECOND),
    "mdy": (loose("{m.month}/{m.day}/{m.year}"), DAY),
    "two digits": (strf("%d/%m/%y %H:%M"), MINUTE),
    "month names": (strf("%d %b %Y %H:%M"), MINUTE),
    "amazon": (loose("{m:%m} {m.day}, {m.year}"), DAY),
    "twitter": (strf("%a %b %d %H:%M:%S +0000 %Y"), SECOND),
    "apache": (strf("%d/%b/%Y:%H:%M:%S +0000"), SECOND),
    "mail": (strf("%a, %d %b %Y %H:%M:%S +0000"), SECOND),
}
moments = st.lists(st.datetimes(Moment(1996, 1, 1), Moment(2034, 12, 30)), min_size=1, max_size=8)


def csv_of(texts: list[Any]) -> str:
    quoted = (f'"{text}"' if "," in str(text) else text for text in texts)
    rows = "".join(f"u{n % 3},{n},{text}\n" for n, text in enumerate(quoted))
    return f"user_id,item_id,event_time\n{rows}"


def check(folder: Path, name: str, known: list[int], step: int) -> None:
    """That what is proposed reads the instants; or that a form was asked for that the values leave open."""
    guess = guess_file(folder / name)
    assert [column.name for column in guess.columns if column.role == "timestamp"]
    if guess.open:
        assert guess.open == ["timestamp_format"], guess
        assert any("say in timestamp_format" in note for note in guess.notes)
        return
    guess.save_spec(folder / "spec.yaml")
    spec, base = load_spec(folder / "spec.yaml")
    got = read_log(spec, Path(base))
    assert got.rejects == []
    per_tick = TICKS_PER_SECOND["us"] // TICKS_PER_SECOND[spec.stored_unit]
    read = [value * per_tick // step for (value,) in got.rows("timestamp")]
    assert read == [value // step for value in known], (guess.spec, known)


@few
@given(st.sampled_from(sorted(SHAPES)), moments, st.booleans())
def test_what_is_proposed_prepares(shape: str, times: list[Moment], lines: bool) -> None:
    write, step = SHAPES[shape]
    texts = [write(time) for time in times]
    records = [{"user_id": n % 3, "item_id": f"i{n}", "event_time": text} for n, text in enumerate(texts)]
    log = "\n".join(map(json.dumps, records)) if lines else csv_of(texts)
    name = "log.jsonl" if lines else "log.csv"
    with folder_of(**{name.replace(".", "__"): log}) as folder:
        check(folder, name, [ticks(time) for time in times], step)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_told_apart_by_enough_days(shape: str, tmp_path: Path) -> None:
    write, step = SHAPES[shape]
    times = [
        Moment(2019, 1, 1, 13, 7, 5, 250_000) + datetime.timedelta(days=day, hours=day) for day in range(400)
    ]
    (tmp_path / "log.csv").write_text(csv_of([write(time) for time in times]))
    assert not guess_file(tmp_path / "log.csv").open
    check(tmp_path, "log.csv", [ticks(time) for time in times], step)


@few
@given(moments, st.sampled_from(["s", "ms", "us", "ns", "date32", "date64", "pair", "int64", "double"]))
def test_what_is_proposed_for_parquet_prepares(times: list[Moment], kind: str) -> None:
    count, step = len(times), 1
    columns: dict[str, Any] = {"user": pa.array(range(count)), "item": pa.array(["x"] * count)}
    if kind == "pair":
        columns |= {
            "date": pa.array([t.date() for t in times]),
            "clock_time": pa.array([t.time() for t in times]),
        }
    elif kind == "double":
        columns["ts"], step = pa.array([ticks(time) / 1e6 for time in times]), 1
    else:
        types = {"date32": pa.date32(), "date64": pa.date64(), "int64": pa.int64()}
        exact = pa.array([ticks(time) for time in times], pa.int64()).cast(pa.timestamp("us"))
        step = DAY if "date" in kind else {"s": SECOND, "ms": 1000}.get(kind, 1)
        columns["ts"] = exact.cast(types.get(kind) or pa.timestamp(kind), safe=False)
    with folder_of() as folder:
        pq.write_table(pa.table(columns), folder / "log.parquet")
        check(folder, "log.parquet", [ticks(time) for time in times], step)


def test_date_and_time_in_two_columns_and_the_rest_of_the_file_decides(tmp_path: Path) -> None:
    days = [Moment(2015, 1 + n // 2000, 1 + n % 12, n % 24) for n in range(4000)] + [Moment(2015, 3, 27)]
    rows = "".join(f"{n},{n % 9},{t:%d-%m-%Y},{t:%H:%M}\n" for n, t in enumerate(days))
    (tmp_path / "log.csv").write_text(f"customer_id,product_id,date,time\n{rows}")
    guess = guess_file(tmp_path / "log.csv")
    assert guess.spec["events"]["columns"]["timestamp"] == ["date", "time"]
    assert guess.spec["timestamp_format"] == "dmy"
    assert any("this one fits further rows best" in note for note in guess.notes)
    check(tmp_path, "log.csv", [ticks(time) for time in days], MINUTE)


@pytest.mark.parametrize("shape", ["epoch s", "epoch ms", "epoch us", "ymd compact", "iso", "utc"])
def test_one_damaged_row_of_a_thousand_hides_no_form(shape: str, tmp_path: Path) -> None:
    write, _ = SHAPES[shape]
    times = [write(Moment(2019, 1, 1) + datetime.timedelta(days=n % 300, hours=n)) for n in range(999)]
    (tmp_path / "log.csv").write_text(csv_of([*times[:500], "yesterday", *times[500:]]))
    guess = guess_file(tmp_path / "log.csv")
    assert not guess.open
    (tmp_path / "clean.csv").write_text(csv_of(times))
    keys = ("timestamp_unit", "timestamp_format")
    clean = guess_file(tmp_path / "clean.csv").spec
    assert [guess.spec.get(key) for key in keys] == [clean.get(key) for key in keys]


def test_what_is_not_understood_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,when\n1,2,week 31\n1,3,week 32\n")
    guess = guess_file(tmp_path / "log.csv")
    assert guess.open == ["timestamp_unit"]
    assert "'when' is named like a time, but 'week 31' is not understood" in guess.notes[0]
    assert [column.sure for column in guess.columns] == [True, True, False]


@pytest.mark.parametrize("text", ["2025550100", "1", "123456789", "18991231", "soon", "25:61", ""])
def test_what_is_no_time(text: str) -> None:
    found = written_as(pa.array([text]))
    assert found is None or text == "2025550100"  # a telephone number may be a time; its name tells
