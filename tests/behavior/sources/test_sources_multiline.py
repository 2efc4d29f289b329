from __future__ import annotations

import csv
import gzip
import io
import zlib
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.sources import plan_input, rows
from behavior.sources.delimited import MultilineReader
from tests.behavior.logs import few, folder_of, in_blocks_of, make_spec, many, read_log

MULTI = {"multiline": True}


def read(text: bytes, cuts: list[int] | None = None) -> tuple[list[tuple], list[tuple[int, str, str]], int]:
    """Rows with their lines, rejects, and lines, of a text that comes in blocks of lines."""
    reader = MultilineReader(["user", "item"], ["user", "item"], ",", '"', "utf-8")
    lines = text.split(b"\n")
    pieces = [line + b"\n" for line in lines[:-1]] + [lines[-1]] * (lines[-1] != b"")
    cuts = cuts or [len(pieces)]
    blocks = [b"".join(pieces[a:b]) for a, b in zip([0, *cuts], [*cuts, len(pieces)], strict=True)]
    got, rejects, before = [], [], 0
    for block in [*blocks, None]:
        raw = reader.finish() if block is None else reader.read(block)
        columns = (raw.columns[name].to_pylist() for name in ("user", "item"))
        got += list(zip((raw.places + before).tolist(), *columns, strict=True))
        rejects += [(place + before, reason, shown) for place, reason, shown in raw.rejects]
        before += raw.lines
    return got, sorted(rejects), before


fields = st.text(st.sampled_from('ab", \n\né'), max_size=6)


@many
@given(st.lists(st.tuples(fields, fields), max_size=8), st.sampled_from(["\n", "\r\n"]), st.data())
def test_what_python_writes_is_read_with_true_line_numbers(
    records: list[tuple[str, str]], end: str, data: st.DataObject
) -> None:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator=end, quoting=csv.QUOTE_ALL)
    expected = []
    for record in records:
        expected.append((sink.getvalue().count("\n") + 1, *(field.encode() for field in record)))
        writer.writerow(record)
    text = sink.getvalue().encode()
    cut = data.draw(st.integers(0, text.count(b"\n")))
    assert read(text, [cut]) == (expected, [], text.count(b"\n"))


@many
@given(
    st.lists(
        st.sampled_from([b"a", b"bc", b",", b",", b'"', b"\n", b"\n", b"\r\n", b"\r", b"\xff"]), max_size=40
    )
)
@example([b'"', b"\n", b'"', b"\r", b",", b"a"])
def test_every_line_is_in_one_row_or_reject_wherever_blocks_end(pieces: list[bytes]) -> None:
    text = b"".join(pieces)
    whole = read(text)
    for cut in range(text.count(b"\n") + 1):
        assert read(text, [cut]) == whole
    got, rejects, lines = whole
    assert lines == text.count(b"\n") + (not text.endswith(b"\n") and text != b"")
    starts = [place for place, *_ in got] + [place for place, _, _ in rejects]
    assert len(set(starts)) == len(starts)
    # A line that is not blank either begins a row or is behind a quote that an earlier line opened.
    covered = 0
    for number, line in enumerate(text.split(b"\n"), start=1):
        covered += number in starts
        assert covered or not line.strip()


def test_a_quote_that_is_never_closed_costs_its_own_line_only() -> None:
    got, rejects, lines = read(b'1,"2\n3,4\n5,6')
    assert got == [(2, b"3", b"4"), (3, b"5", b"6")]
    assert rejects == [(1, "a quote is not closed", '1,"2')]
    assert lines == 3


def test_a_row_has_a_largest_size() -> None:
    text = b'1,"2\n' + b"3,4\n" * 30 + b'5,"6'
    with mock.patch.object(rows, "MAX_ROW_BYTES", 50):
        got, rejects, _ = read(text + b'"\n')
    assert len(got) == 31
    assert [(place, shown) for place, _, shown in rejects] == [(1, '1,"2')]
    [row], rejects, _ = read(text + b'"\n')
    assert (row[:2], len(row[2]), rejects) == ((1, b"1"), 126, [])


def test_bad_rows_in_the_log_keep_their_lines() -> None:
    log = b"user,item,time\n"
    log += b'1,"two\nlines",3\n4,"x\r\ny"\n\n5,"a\n\xff\nb",6\n7,"8\n",noon\n9,10\r,11\n12,13,14\n'
    for size in (1, 20, 1 << 20):
        with (
            folder_of(log__csv=log) as folder,
            mock.patch("behavior.sources.read.iter_blocks", in_blocks_of(size)),
        ):
            got = read_log(make_spec(MULTI), folder, 10)
        assert got.rows("user", "item", "timestamp") == [("1", "two\nlines", 3), ("12", "13", 14)]
        assert got.reasons == [
            (4, "2 fields where 3 are expected"),
            (7, "not utf-8: invalid start byte at byte 0"),
            (10, "timestamp 'noon' is not a whole number"),
            (12, "a carriage return within the line"),
        ]
        assert got.rejects[2].text == '7,"8\n",noon'


def test_a_header_may_hold_line_feeds_too() -> None:
    log = b'\xef\xbb\xbf"user","the\nitem",time\n1,2,x\n3,4,5\n'
    columns = {"user": "user", "item": "the\nitem", "timestamp": "time"}
    with folder_of(log__csv=log) as folder:
        plan = plan_input(make_spec({**MULTI, "columns": columns}), str(folder), 5)
        assert [(chunk.start, chunk.end, chunk.bytes) for chunk in plan.chunks] == [(0, None, len(log))]
        got = read_log(make_spec({**MULTI, "columns": columns}), folder)
    assert got.rows("user", "item", "timestamp") == [("3", "4", 5)]
    assert [line for line, _ in got.reasons] == [3]


@few
@given(st.integers(30, 200))
def test_a_torn_file_does_not_end_in_half_a_row(cut: int) -> None:
    log = b"user,item,time\n" + b"".join(b'%d,"a\n%d\n",3\n' % (n, n * 7919 % 1009) for n in range(60))
    packed = gzip.compress(log)
    with folder_of(log__csv__gz=packed[:cut]) as folder:
        try:
            got = read_log(make_spec({**MULTI, "files": "log.csv.gz"}), folder)
        except UserError:
            assert b"\n" not in zlib.decompressobj(wbits=31).decompress(packed[:cut])
            return
    count = got.events.num_rows
    assert got.rows("user") == [(str(n),) for n in range(count)]
    assert got.reasons[0][0] == 2 + 3 * count
    assert len(got.rejects) == 1
    assert (b"\n" + got.rejects[0].text.encode()) in log


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quote": None}, "multiline needs a quote character"),
        ({"separator": "::"}, "multiline needs a separator of one"),
        ({"format": "jsonl"}, "multiline is for csv only"),
    ],
)
def test_what_does_not_go_with_multiline(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_spec({**MULTI, **changes})
