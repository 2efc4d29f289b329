"""Arbitrary bytes against every reader: nothing but a UserError, every row accounted for."""

from __future__ import annotations

import gzip
import io
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.sources import plan_input
from behavior.spec.dataset_spec import DatasetSpec
from tests.behavior.logs import Reading, folder_of, make_spec, read_log, untimed_spec

fuzz = settings(max_examples=120, deadline=None)

# What means something to one of the readers comes often, whole rows most of all.
ROWS = [
    b"1,2,3\n",
    b"1::2::3\n",
    b'"4","5,5","6"\r\n',
    b"u 1 2 3\n",
    b'{"user": 1, "item": "b", "time": 3}\n',
]
HEADERS = [b"user,item,time\n", b"user::item::time\n", b"\xef\xbb\xbfuser,item,time\r\n"]
MARKS = [
    b'"',
    b'""',
    b",",
    b"::",
    b"\n",
    b"\n",
    b"\r\n",
    b"\r",
    b" ",
    b"\x00",
    b"\xff",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
]
JSON = [
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b"null",
    b'{"user": null}',
    b'{"user": {"item": 1}}\n',
    b'"user"',
    b"1e400",
    b"\\u0000",
]
ODD = [b"0x10", b"7.0", b"+1", b"9" * 25, b"nan", b"1700000000000", b"-5", b"\x1f", b"\xc3\xa9", b"\\"]
pieces = st.sampled_from(ROWS) | st.sampled_from(MARKS) | st.sampled_from(JSON) | st.sampled_from(ODD)
bodies = st.lists(pieces | st.binary(max_size=6), max_size=25).map(b"".join)
texts = st.builds(bytes.__add__, st.sampled_from([b"", *HEADERS]), bodies)


def specs() -> dict[str, dict[str, Any]]:
    """The event files of one spec a reader."""
    bare = {"header": False, "names": ["user", "item", "time"]}
    return {
        "csv": {},
        "csv without quotes": {"quote": None},
        "csv without a header": bare,
        "csv in latin-1": {"encoding": "latin-1"},
        "csv in shift-jis": {"encoding": "shift_jis"},
        "multiline": {"multiline": True},
        "::": {"separator": "::"},
        "jsonl": {"format": "jsonl"},
        "sequences": {"format": "sequences", "columns": {}},
    }


def spec_of(kind: str, name: str, integers: bool) -> DatasetSpec:
    changes: dict[str, Any] = {"id_types": {"user": "integer", "item": "integer"}} if integers else {}
    source = {"files": name, **specs()[kind]}
    return untimed_spec(source, **changes) if kind == "sequences" else make_spec(source, **changes)


def read(data: bytes, kind: str, name: str, integers: bool, chunk: int = 1 << 20) -> Reading | None:
    """What is read of a file; None where it is refused."""
    with folder_of(**{name.replace(".", "__"): data}) as folder:
        try:
            got = read_log(spec_of(kind, name, integers), folder, chunk)
        except UserError as error:
            message = str(error)
            got = None
    if got is None:
        assert name in message or "the log is empty" in message
        return None
    assert got.read == got.events.num_rows + len(got.rejects) + got.filtered
    return got


@fuzz
@given(texts, st.sampled_from(list(specs())), st.booleans(), st.integers(1, 60))
@example(b"user,item,time\n1,2,3\n", "csv", True, 10)
def test_every_line_of_a_text_is_one_row_or_one_reject(
    data: bytes, kind: str, integers: bool, chunk: int
) -> None:
    got = read(data, kind, "log.csv", integers, chunk)
    if got is None or kind == "multiline":
        return
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    has_header = kind not in ("jsonl", "sequences", "csv without a header")
    places = [reject.place for reject in got.rejects]
    filled = [n for n, line in enumerate(lines, start=1) if line.strip() and not (has_header and n == 1)]
    assert set(places) <= set(filled)
    if kind == "sequences":
        return
    assert len(set(places)) == len(places)
    white = b" \t\r\x0b\x0c"
    blank_to_some = sum(not line.strip(white + b"\xa0\x85\x1c\x1d\x1e\x1f") for line in lines)
    assert len(filled) - blank_to_some <= got.read <= len(filled)


@fuzz
@given(texts, st.sampled_from(list(specs())), st.booleans())
def test_compressed_text_reads_as_the_text(data: bytes, kind: str, integers: bool) -> None:
    plain = read(data, kind, "log.csv", integers)
    for name, packed in (
        ("log.csv.gz", gzip.compress(data)),
        ("log.csv.zst", pa.compress(data, "zstd", asbytes=True)),
    ):
        got = read(packed, kind, name, integers)
        if plain is None or got is None:
            assert plain is got or (plain is None and got is not None and not got.read)
        else:
            assert got.events == plain.events
            assert got.reasons == plain.reasons


@fuzz
@given(texts, st.sampled_from(list(specs())), st.sampled_from(["gz", "zst"]), st.data())
def test_torn_and_flipped_streams(data: bytes, kind: str, codec: str, draw: st.DataObject) -> None:
    packed = bytearray(gzip.compress(data) if codec == "gz" else pa.compress(data, "zstd", asbytes=True))
    for _ in range(draw.draw(st.integers(0, 2))):
        packed[draw.draw(st.integers(0, len(packed) - 1))] = draw.draw(st.integers(0, 255))
    cut = draw.draw(st.integers(0, len(packed)))
    read(bytes(packed[:cut]), kind, f"log.csv.{codec}", False)


@fuzz
@given(
    st.binary(max_size=300)
    | st.builds(bytes.__add__, st.sampled_from([b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"PAR1"]), st.binary()),
    st.sampled_from(["log.csv.gz", "log.csv.zst", "log.csv", "log.jsonl", "log.jsonl.gz", "log.parquet"]),
)
def test_rubbish_under_any_name(data: bytes, name: str) -> None:
    for skip in (False, True):
        with folder_of(**{name.replace(".", "__"): data, "more__csv": "user,item,time\n1,2,3\n"}) as folder:
            try:
                plan = plan_input(make_spec({"files": name}), str(folder), skip_bad_files=skip)
                read_log(make_spec({"files": name}), folder)
            except UserError:
                continue
            assert plan.bad_files == []


@pytest.mark.parametrize("depth", [1_000, 100_000, 3_000_000])
@pytest.mark.parametrize("opening", [b"[", b'{"user":', b'{"x":['])
def test_deeply_nested_json_does_not_overflow_the_stack(depth: int, opening: bytes) -> None:
    line = b'{"item": 1, "time": 2, "user": ' + opening * depth + b"1}"
    got = read(b'{"user": 1, "item": 1, "time": 1}\n' + line + b"\n" + line, "jsonl", "log.csv", False)
    assert got is not None
    assert (got.events.num_rows, [place for place, _ in got.reasons]) == (1, [2, 3])


# --- Parquet: in a process of its own, since a reader of damaged files that crashes takes its process along.

KINDS: list[dict[str, Any]] = [
    {"compression": "snappy"},
    {"compression": "none", "use_dictionary": False},
    {"compression": "zstd", "data_page_version": "2.0"},
    {
        "compression": "none",
        "use_dictionary": False,
        "column_encoding": {
            "user": "DELTA_BINARY_PACKED",
            "item": "DELTA_BYTE_ARRAY",
            "time": "BYTE_STREAM_SPLIT",
        },
    },
    {"compression": "gzip", "write_page_index": True, "write_page_checksum": True},
]
SPEC = {"files": "*.parquet", "columns": {"user": "user", "item": "item", "timestamp": "time"}}


def flipped(seed: int) -> bytes:
    """A Parquet file with a few wrong bytes, in its pages or in its footer."""
    dice, rows = random.Random(seed), 90
    words = pa.array([f"i{n % 7}" for n in range(rows)])
    table = pa.table(
        {
            "user": pa.array(range(rows)),
            "item": words.dictionary_encode() if seed % 2 else words,
            "time": pa.array(range(rows), pa.timestamp("us")) if seed % 3 else pa.array(range(rows)),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=30, **KINDS[seed % len(KINDS)])
    data = bytearray(sink.getvalue())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    for _ in range(dice.choice([1, 1, 2, 9])):
        place = dice.randrange(4, footer) if seed % 4 < 2 else dice.randrange(footer, len(data))
        data[place] = dice.choice([0, 255, data[place] ^ (1 << dice.randrange(8)), dice.randrange(256)])
    return bytes(data[: dice.randrange(len(data))] if seed % 17 == 0 else data)


def read_flipped(first: int, last: int) -> None:
    """Read flipped files; print the seed before each, so that the last one is the one that crashed."""
    for seed in range(first, last):
        print(seed, flush=True)
        with folder_of(log__parquet=flipped(seed)) as folder:
            try:
                got = read_log(make_spec(SPEC), folder)
            except UserError:
                continue
            assert got.read == got.events.num_rows + len(got.rejects) + got.filtered
            got.events.validate(full=True)


def test_parquet_files_with_flipped_bytes() -> None:
    code = "from tests.behavior.sources.test_readers_fuzz import read_flipped; read_flipped(0, 1000)"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    last = done.stdout.strip().rpartition("\n")[2]
    assert done.returncode == 0, f"seed {last}: {done.stderr[-3000:]}"
