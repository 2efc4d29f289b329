from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior.errors import UserError
from behavior.features import canonical
from behavior.sources import Chunk, RawBatch, UnreadableFileError, plan_input, read_chunk, read_whole_table
from behavior.spec.dataset_spec import FeatureTable, FileFormat
from tests.behavior.logs import folder_of, make_spec, read_log, untimed_spec

LOG = b"user,item,time\n" + b"".join(b"%d,%d,%d\n" % (n, n * n * 7919 % 1_000_003, n) for n in range(4000))


def read(data: bytes, columns: list[str], name: str = "log.csv", **source: Any) -> list[RawBatch]:
    form = FileFormat(files=name, **source)
    with folder_of(**{name.replace(".", "__"): data}) as folder:
        chunk = Chunk(0, 0, 0, str(folder / name), 0, None)
        return list(read_chunk(form, chunk, columns, integers={"user"} & set(columns)))


def codec_of(name: str, data: bytes) -> bytes:
    return gzip.compress(data, mtime=0) if name.endswith(".gz") else pa.compress(data, "zstd", asbytes=True)


@pytest.mark.parametrize("name", ["log.csv.gz", "log.csv.zst"])
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_a_torn_file_gives_its_rows_and_one_reject_at_the_line_where_it_stops(name: str, part: float) -> None:
    data = LOG + b"".join(b"%d,%d,%d\n" % (n, n * n * 7919 % 1_000_003, n) for n in range(4000, 60_000))
    packed = codec_of(name, data)
    spec = make_spec({"files": name})
    with folder_of(**{name.replace(".", "__"): packed[: int(len(packed) * part)]}) as folder:
        got = read_log(spec, folder)
        raws = list(read_chunk(spec.events[0], plan_input(spec, str(folder)).chunks[0], ["user", "item"]))
    lines = data.decode().split("\n")
    count = got.events.num_rows
    assert count > 1000
    assert [",".join(map(str, row)) for row in got.rows("user", "item", "timestamp")] == lines[1 : count + 1]
    [reject] = got.rejects
    assert reject.place == count + 2
    assert reject.reason.startswith("the file is cut off or damaged here: what follows is lost: ")
    assert lines[count + 1].startswith(reject.text)
    assert got.read == count + 1
    assert [raw.damaged is not None for raw in raws] == [False] * (len(raws) - 1) + [True]


@pytest.mark.parametrize("kind", ["jsonl", "sequences"])
def test_torn_files_of_other_formats(kind: str) -> None:
    line = b'{"user": 1, "item": 2, "time": 3}\n' if kind == "jsonl" else b"1 2 3\n"
    packed = gzip.compress(line * 50_000 + b"x", 1)[:-12]
    source = {"files": "log.gz", "format": kind}
    spec = make_spec(source) if kind == "jsonl" else untimed_spec({**source, "columns": {}})
    with folder_of(log__gz=packed) as folder:
        got = read_log(spec, folder)
    assert got.events.num_rows > 40_000
    assert [reject.text for reject in got.rejects] in [[line.decode()[:n]] for n in range(len(line))]


@pytest.mark.parametrize("whole", [0, 1, 2])
@pytest.mark.parametrize("size", [10, 3000])
def test_lines_without_a_header_that_are_torn_early(whole: int, size: int) -> None:
    noise = "".join(str(n * n) for n in range(size))[:size]
    lines = [f'{{"user": {n}, "item": "{noise}", "time": 3}}\n' for n in range(3)]
    pack = zlib.compressobj(wbits=31)
    data = pack.compress("".join(lines[:whole]).encode() + lines[whole][:-9].encode())
    data += pack.flush(zlib.Z_SYNC_FLUSH)  # all of it can be unpacked, but the stream does not end
    with folder_of(log__jsonl__gz=data) as folder:
        got = read_log(make_spec({"files": "log.jsonl.gz"}), folder)
    assert got.rows("user") == [(str(n),) for n in range(whole)]
    assert [(reject.place, reject.text) for reject in got.rejects] == [(whole + 1, lines[whole][:-9])]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("log.csv.gz", b"user,item,time\n1,2,3\n", "cannot be read: .*is it gzip"),
        ("log.csv.gz", gzip.compress(LOG, mtime=0)[:40], "cannot be read"),
        ("log.csv", b"\xff\xfeu\x00s\x00e\x00r\x00", "is UTF-16"),
        ("log.csv", b"\xfe\xff\x00u\x00s\x00e\x00r", "is UTF-16"),
        ("log.csv", b"user,it\xe9m,time\n1,2,3\n", "its header is not utf-8: "),
        ("log.csv", b"user,item\n1,2\n", "there is no column 'time'"),
        ("log.csv", b"\n1,2,3\n", "there is no column"),
        ("log.parquet", b"PAR1", "is not a Parquet file"),
    ],
)
def test_a_file_of_which_nothing_can_be_used_is_an_error_that_names_it(
    name: str, data: bytes, message: str
) -> None:
    with pytest.raises(UnreadableFileError, match=message) as error:
        read(data, ["user", "item", "time"], name)
    assert name in str(error.value)
    assert "--skip-bad-files" in str(error.value.fix)


def test_a_file_that_vanished_after_the_plan() -> None:
    spec = make_spec()
    with folder_of(log__csv=LOG) as folder:
        plan = plan_input(spec, str(folder))
        (folder / "log.csv").unlink()
        with pytest.raises(UnreadableFileError, match="there is no file") as error:
            list(read_chunk(spec.events[0], plan.chunks[0], ["user"]))
    reject = error.value.reject(plan.chunks[0].path, "log.csv")
    assert reject.reason == "there is no file 'log.csv'"
    assert reject.to_json().startswith('{"file": "log.csv", "line": 0, ')


def test_latin_1_headers_and_rows() -> None:
    [_, raw] = read("usér,item\n1,né\n".encode("latin-1"), ["usér", "item"], encoding="latin-1")
    assert raw.columns["item"].to_pylist() == ["né".encode()]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("separator", [",", "::", "\t"])
def test_byte_order_marks_and_line_ends(mark: bytes, end: bytes, header: bool, separator: str) -> None:
    lines = [b"user,item,time"] * header + [b"1,2,3", b"4,5,6"]
    data = mark + b"".join(line.replace(b",", separator.encode()) + end for line in lines)
    source = {} if header else {"header": False, "names": ["user", "item", "time"]}
    with folder_of(log__csv=data) as folder:
        for chunk_bytes in (5, 1 << 20):
            got = read_log(make_spec({"separator": separator, **source}), folder, chunk_bytes)
            assert got.rows("user", "item", "timestamp") == [("1", "2", 3), ("4", "5", 6)]
            assert got.rejects == []


def test_nul_bytes_are_text_like_any_other() -> None:
    with folder_of(log__csv=b"user,item,time\n1\x00,\x00,3\n4,5,6\x00\n") as folder:
        got = read_log(make_spec(), folder)
    assert got.rows("user", "item", "timestamp") == [("1\x00", "\x00", 3)]
    assert got.reasons == [(3, "timestamp '6\\x00' is not a whole number")]


def test_integers_of_63_bits_and_more() -> None:
    top = 2**63 - 1
    log = f"user,item,time\n{top},{-top - 1},1\n{top + 1},1,1\n1,{'9' * 30},1\n".encode()
    with folder_of(
        log__csv=log, log__jsonl=b'{"user": %d, "item": %d, "time": 1}\n' % (top, top + 1)
    ) as folder:
        whole = {"user": "integer", "item": "integer"}
        got = read_log(make_spec(id_types=whole), folder)
        assert got.rows("user", "item") == [(top, -top - 1)]
        assert [line for line, _ in got.reasons] == [3, 4]
        assert read_log(make_spec({"files": "log.jsonl"}), folder).rows("user", "item") == [
            (str(top), str(top + 1))
        ]


def test_columns_of_whole_numbers_come_as_such_block_by_block() -> None:
    def types(text: bytes) -> list[Any]:
        return [raw.columns["user"].type for raw in read(text, ["user", "item"])][1:]

    assert types(b"user,item,time\n7,a,1\n -8 ,b,1\n") == [pa.int64()]
    for bad in (b"7.0", b"0x10", b"", b"x", b"+7", b"9" * 20, b"NA"):
        assert types(b"user,item,time\n7,a,1\n%s,b,1\n" % bad) == [pa.binary()], bad


def test_an_encoding_that_hides_line_feeds_costs_the_lines_that_do() -> None:
    with folder_of(log__csv=b"user,item,time\n1,2+AAo-,3\n4,5,6\n") as folder:
        got = read_log(make_spec({"encoding": "utf-7"}), folder)
    assert got.rows("user") == [("4",)]
    assert [line for line, _ in got.reasons] == [2]


def test_a_later_file_without_the_column_is_an_error_that_names_the_way_out() -> None:
    with (
        folder_of(a__csv=LOG, b__csv="user,thing,time\n1,2,3\n") as folder,
        pytest.raises(UserError, match="no column 'item'") as error,
    ):
        read_log(make_spec({"files": "*.csv"}), folder)
    assert str(error.value.where).endswith("b.csv")
    assert "--skip-bad-files" in str(error.value.fix)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoding": "utf-16"}, "does not write a line feed as one byte"),
        ({"encoding": "utf-32-le"}, "does not write a line feed as one byte"),
        ({"encoding": "no such"}, "there is no text encoding"),
        ({"quote": ","}, "quote and separator must differ"),
    ],
)
def test_formats_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_spec(changes)


def test_no_quote_needs_no_separator_spelt_out() -> None:
    with folder_of(log__csv=b'user,item,time\n"1,2,3\n') as folder:
        assert read_log(make_spec({"quote": None}), folder).rows("user") == [('"1',)]


TAGS = [{"name": "tags", "kind": "multi_categorical", "separator": ", "}]


@pytest.mark.parametrize(
    "name", ["text.csv", "text.jsonl", "text.parquet", "map.json", "map.jsonl", "map.parquet"]
)
def test_text_of_several_values_is_split_in_every_format_and_lists_are_not(name: str, tmp_path: Path) -> None:
    rows = {"1": "a, b", "2": None, "3": "c"}
    if name.startswith("map"):
        rows = {"1": ["a, b", "c"], "2": None, "3": "d, e"} if name == "map.json" else {"1": ["a, b", "c"]}
    table: dict[str, Any] = {"files": name, "id": "id", "features": TAGS}
    if name.endswith("csv"):
        lines = [f'{key},"{value or ""}"' for key, value in rows.items()]
        (tmp_path / name).write_text("\n".join(["id,tags", *lines]))
    elif name.endswith("jsonl"):
        (tmp_path / name).write_text("\n".join(json.dumps({"id": k, "tags": v}) for k, v in rows.items()))
    elif name.endswith("parquet"):
        pq.write_table(pa.table({"id": list(rows), "tags": list(rows.values())}), tmp_path / name)
    else:
        (tmp_path / name).write_text(json.dumps(rows))
        table = {"files": name, "format": "json_map", "features": TAGS}
    form = FeatureTable(**table)
    raw, rejects = read_whole_table(form, str(tmp_path))
    found = canonical(form.features[0], raw.column("tags").combine_chunks()).to_pylist()
    assert found == [v if isinstance(v, list) else v.split(", ") if v else [] for v in rows.values()]
    assert rejects == []


def test_a_column_of_json_read_in_two_ways_is_refused(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"id": 1, "tags": "a, b"}')
    form = FeatureTable(files="items.jsonl", id="id", features=[*TAGS, {"name": "first", "column": "tags"}])
    with pytest.raises(UserError, match="two features read the column 'tags' in two ways"):
        read_whole_table(form, str(tmp_path))
