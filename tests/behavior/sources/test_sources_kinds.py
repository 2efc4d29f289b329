"""Files that are not what a spec takes them for, and files that are no part of a log."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from behavior.errors import UserError
from behavior.guess.files import guess_file
from behavior.sources import plan_input
from behavior.sources.files import expand
from behavior.spec.dataset_spec import FileFormat
from tests.behavior.logs import make_spec, read_log

LOG = b"user,item,time\n1,2,3\n"


def zipped(data: bytes) -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("log.csv", data)
        return file.getvalue()


def tarred(data: bytes) -> bytes:
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            entry = tarfile.TarInfo("log.csv")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        return file.getvalue()


def parquet(path: Path, **columns: pa.Array) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("name", "data", "message", "fix"),
    [
        ("e.csv.bz2", bz2.compress(LOG), "is bz2, which is not read", "gzip or zstd"),
        ("e.zip", zipped(LOG), "is zip, which is not read", "gzip or zstd"),
        ("e.csv.xz", lzma.compress(LOG), "is xz, which is not read", "unpack"),
        ("e.csv.lz4", b"\x04\x22\x4d\x18" + b"x" * 20, "is lz4", "unpack"),
        ("e.csv", gzip.compress(LOG, mtime=0), "is gzip, not text", "compression: gzip"),
        ("e.csv", zstandard.compress(LOG), "is zstd, not text", "compression: zstd"),
        ("e.tar", tarred(LOG), "is tar", "unpack"),
        ("e.tar.gz", gzip.compress(tarred(LOG), mtime=0), r"is tar.*within gzip", "unpack"),
        ("e.csv.gz", gzip.compress(bz2.compress(LOG), mtime=0), r"is bz2.*within gzip", "unpack"),
        ("e.jsonl", b"Obj\x01\x04\x14", "is Avro", "Parquet"),
    ],
)
def test_what_cannot_be_read_is_called_by_its_name(
    tmp_path: Path, name: str, data: bytes, message: str, fix: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message) as error:
        plan_input(make_spec({"files": name}), str(tmp_path))
    assert fix in str(error.value.fix)
    if "not text" not in message:
        with pytest.raises(UserError, match=message):
            guess_file(tmp_path / name)


def test_parquet_that_calls_itself_csv(tmp_path: Path) -> None:
    parquet(tmp_path / "log.csv", user=pa.array([1]))
    with pytest.raises(UserError, match="is Parquet, not text") as error:
        plan_input(make_spec(), str(tmp_path))
    assert "format: parquet" in str(error.value.fix)


def test_wildcards_match_no_hidden_files(tmp_path: Path) -> None:
    plain = ["log.csv", "day=1/a.csv", "_day=2/a.csv"]
    hidden = [".ipynb_checkpoints/log.csv", "._log.csv", ".part.csv.crc", "_SUCCESS.csv", "_temporary/a.csv"]
    for name in [*plain, *hidden, "day=1/.a.csv", "day=1/a.csv.crc"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(LOG)

    def names(pattern: str) -> list[str]:
        return [file.name for file in expand(FileFormat(files=[pattern]), str(tmp_path))]

    assert sorted(names("**/*.csv")) == sorted(plain)
    assert names("*/*") == ["_day=2/a.csv", "day=1/a.csv"]
    assert names("_temp*/*.csv") == ["_temporary/a.csv"]
    assert names("._*.csv") == ["._log.csv"]
    assert names("_SUCCESS.csv") == ["_SUCCESS.csv"]
    with pytest.raises(UserError, match="no file matches"):
        names("*/log.csv")


def test_wildcards_match_links_to_files(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/a.csv").write_bytes(LOG)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/b.csv").write_bytes(LOG)
    for name, there in [("a.csv", "there/a.csv"), ("folder", "there"), (".#b.csv", "me@here:1")]:
        (tmp_path / "logs" / name).symlink_to(tmp_path / there)
    form = FileFormat(files=["logs/*"])
    found = expand(form, str(tmp_path))
    assert [(file.name, file.size) for file in found] == [("logs/a.csv", len(LOG)), ("logs/b.csv", len(LOG))]
    (tmp_path / "there/a.csv").unlink()
    with pytest.raises(UserError, match="is a link to a file that is not there"):
        expand(form, str(tmp_path))


def test_the_folders_above_a_wildcard_may_be_hidden(tmp_path: Path) -> None:
    (tmp_path / ".cache" / "_x").mkdir(parents=True)
    (tmp_path / ".cache" / "_x" / "log.csv").write_bytes(LOG)
    for base, pattern in ((tmp_path / ".cache" / "_x", "*.csv"), (tmp_path, ".cache/*/log.csv")):
        files = FileFormat(files=[pattern])
        if base == tmp_path:
            with pytest.raises(UserError, match="no file matches"):
                expand(files, str(base))
        else:
            assert len(expand(files, str(base))) == 1


NO_INSTANTS = {
    "time32[s]": pa.time32("s"),
    "time64[us]": pa.time64("us"),
    "duration[s]": pa.duration("s"),
    "bool": pa.bool_(),
}
INSTANTS = [
    *(pa.int32(), pa.uint64(), pa.float64(), pa.timestamp("ns", tz="UTC"), pa.date32(), pa.date64()),
    *(pa.string(), pa.large_string(), pa.decimal128(20, 0), pa.dictionary(pa.int8(), pa.string())),
]


@pytest.mark.parametrize("kind", NO_INSTANTS)
def test_parquet_columns_that_are_no_instants(tmp_path: Path, kind: str) -> None:
    times = pa.array([1, 0], pa.int64() if "64" in kind or "dur" in kind else pa.int32())
    log = parquet(
        tmp_path / "log.parquet",
        user=pa.array([1, 2]), item=pa.array([1, 2]), time=times.cast(NO_INSTANTS[kind]),
    )  # fmt: skip
    for unit in ("s", "iso8601"):
        with pytest.raises(UserError, match=rf"the column 'time' holds {kind.split('[')[0]}.*not instants"):
            plan_input(make_spec({"files": "log.parquet"}, timestamp_unit=unit), str(tmp_path))
    # For other ends any column will do.
    untimed = {"files": "log.parquet", "columns": {"user": "user", "item": "item"}}
    assert len(plan_input(make_spec(untimed, timestamp_unit="none"), str(tmp_path)).chunks) == 1
    assert log.exists()


@pytest.mark.parametrize("kind", INSTANTS, ids=str)
def test_parquet_columns_that_may_be_instants(tmp_path: Path, kind: pa.DataType) -> None:
    numbers = pa.array([86_400], pa.int64())
    if pa.types.is_temporal(kind):
        times = numbers.cast(pa.timestamp("s")).cast(kind)
    elif pa.types.is_dictionary(kind):
        times = numbers.cast(pa.string()).dictionary_encode()
    else:
        times = numbers.cast(kind)
    parquet(tmp_path / "log.parquet", user=pa.array([1]), item=pa.array([1]), time=times)
    assert read_log(make_spec({"files": "log.parquet"}), tmp_path).rows("timestamp") == [(86_400,)]


def test_a_parquet_date_and_time_of_day(tmp_path: Path) -> None:
    parquet(
        tmp_path / "log.parquet",
        user=pa.array([1, 1]),
        item=pa.array([1, 2]),
        date=pa.array([1, 1], pa.int32()).cast(pa.date32()),
        clock=pa.array([3_600, 60], pa.int32()).cast(pa.time32("s")),
    )
    columns = {"user": "user", "item": "item", "timestamp": ["date", "clock"]}
    spec = make_spec({"files": "log.parquet", "columns": columns}, timestamp_format="iso8601")
    assert read_log(spec, tmp_path).rows("timestamp") == [(90_000,), (86_460,)]
