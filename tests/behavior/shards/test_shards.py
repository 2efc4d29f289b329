from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from behavior.shards.manifest import (
    FORMAT_VERSION,
    Counts,
    FeatureEntry,
    HistoryEntry,
    Manifest,
    load_manifest,
)
from behavior.shards.names import logical, version_in, versioned
from behavior.shards.storage import Folder
from behavior.shards.write import file_entry, write_table

COUNTS = {"read": 9, "accepted": 6, "rejected": 1, "filtered": 2, "events": 6, "users": 2, "items": 3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished data set of two users and three items."""
    sequences = [
        pa.table({"user": [user], "item": pa.array([[2, 3, 4]], pa.list_(pa.int32())), "pack": [0]})
        for user in (1, 2)
    ]
    items = pa.table(
        {
            "index": [2, 3, 4],
            "id": ["a", "b", "c"],
            "count": [2] * 3,
            "train_count": [1] * 3,
            "color": [3] * 3,
        }
    )
    words = pa.table({"index": [3], "value": ["red"], "count": [1]})
    files = [
        *(
            write_table(s, tmp_path, f"sequences/part-0000{n}.parquet", events=3)
            for n, s in enumerate(sequences)
        ),
        write_table(items, tmp_path, "items.parquet"),
        write_table(items, tmp_path, "users.parquet"),
        write_table(words, tmp_path, "vocabulary/color.parquet"),
        write_table(words, tmp_path, "vocabulary/user.color.parquet"),
    ]
    Manifest(
        format_version=FORMAT_VERSION,
        name="small",
        spec={},
        spec_digest="",
        input_digest="",
        counts=Counts(**COUNTS),
        behaviors=["fav", "buy"],
        targets=["buy"],
        domains=[],
        timestamp_unit="none",
        split={"kind": "leave_one_out"},
        oov=1,
        packing={"tokens": 10, "max_length": 5},
        item_features=[FeatureEntry(name="color", kind="categorical", vocabulary_size=4)],
        user_features=[],
        files=files,
    ).save(tmp_path)
    return tmp_path


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def test_a_finished_data_set_opens(folder: Path) -> None:
    shards = open_shards(folder)
    assert (shards.num_items, shards.first_item, shards.num_item_ids) == (3, 2, 5)
    assert [entry.path for entry in shards.sequence_files()] == [
        "sequences/part-00000.parquet",
        "sequences/part-00001.parquet",
    ]
    assert [table.column("user").to_pylist() for table in shards.iter_sequences()] == [[1], [2]]
    assert shards.read_sequences(shards.sequence_files()[1], ["pack"]).column_names == ["pack"]
    assert shards.items().column("id").to_pylist() == ["a", "b", "c"]
    assert shards.users().num_rows == 3
    assert shards.vocabulary("color").to_pylist() == shards.vocabulary("user.color").to_pylist()
    assert shards.manifest.target_ids == [2]
    shards.verify()
    with pytest.raises(UserError, match=r"has no file 'vocabulary/size.parquet'"):
        shards.vocabulary("size")


def test_nothing_temporary_is_left(folder: Path) -> None:
    assert not list(folder.rglob("*.tmp"))


def test_a_manifest_reads_back_as_it_was_written(folder: Path) -> None:
    manifest = load_manifest(folder)
    before = (folder / "manifest.json").read_bytes()
    manifest.save(folder)
    assert (folder / "manifest.json").read_bytes() == before
    assert load_manifest(folder) == manifest


def test_entries_describe_their_files(folder: Path) -> None:
    for entry in load_manifest(folder).files:
        assert entry.bytes == (folder / entry.path).stat().st_size
        assert entry.sha256 == hashlib.sha256((folder / entry.path).read_bytes()).hexdigest()
        there = file_entry(folder, entry.path, rows=entry.rows, events=entry.events)
        assert there == entry.model_copy(update={"content": ""})


def test_no_folder_and_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        open_shards(tmp_path / "none")
    with pytest.raises(UserError, match=r"is not a data set: it has no manifest.json") as error:
        open_shards(tmp_path)
    assert "if a job was interrupted there, run it again" in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "null", "{}", '{"format_version": "1"}', '{"format_version": 1}']
)
def test_a_manifest_that_is_none(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(UserError) as error:
        open_shards(folder)
    assert error.value.where == str(folder / "manifest.json")


def test_a_newer_format_is_refused_and_new_keys_are_not(folder: Path) -> None:
    change(folder, lambda data: data.update(later=1))
    assert open_shards(folder).num_items == 3
    change(folder, lambda data: data.update(format_version=FORMAT_VERSION + 1))
    with pytest.raises(UserError, match=f"has format version {FORMAT_VERSION + 1}; this program reads up to"):
        open_shards(folder)


@pytest.mark.parametrize("key", ["read", "accepted", "rejected", "filtered", "events"])
def test_counts_that_do_not_add_up_are_refused(folder: Path, key: str) -> None:
    with pytest.raises(ValidationError):
        Counts(**{**COUNTS, key: COUNTS[key] + 1})
    change(folder, lambda data: data["counts"].update({key: COUNTS[key] + 1}))
    with pytest.raises(UserError, match="the manifest is damaged: counts"):
        open_shards(folder)


def test_one_flipped_byte_is_found_when_the_file_is_read(folder: Path) -> None:
    path = folder / "items.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    shards = open_shards(folder)  # the size is right
    assert shards.users().num_rows == 3
    for look in (shards.items, shards.verify):
        with pytest.raises(UserError, match=r"the checksum of 'items.parquet' is wrong") as error:
            look()
        assert error.value.where == str(path)


@pytest.mark.parametrize(
    "name", ["sequences/part-00001.parquet", "items.parquet", "vocabulary/color.parquet"]
)
def test_a_file_missing_or_cut_off_is_found_at_once(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-1])
    with pytest.raises(UserError, match=f"'{name}' has {len(whole) - 1:,} bytes, not {len(whole):,}"):
        open_shards(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"the file '{name}' of the data set is missing") as error:
        open_shards(folder)
    assert "--overwrite" in str(error.value.fix)


def test_a_file_that_goes_after_opening(folder: Path) -> None:
    shards = open_shards(folder)
    (folder / "items.parquet").unlink()
    with pytest.raises(UserError, match="is missing"):
        shards.items()


def test_large_tables_are_written_in_several_row_groups(tmp_path: Path) -> None:
    table = pa.table({"user": range(10)})
    write_table(table, tmp_path, "sequences/a.parquet", events=5_000_000)
    write_table(table, tmp_path, "sequences/b.parquet", events=10)
    assert pq.ParquetFile(tmp_path / "sequences/a.parquet").num_row_groups == 5
    assert pq.ParquetFile(tmp_path / "sequences/b.parquet").num_row_groups == 1


def test_a_column_that_is_not_there_is_an_error_and_not_left_out(folder: Path) -> None:
    shards = open_shards(folder)
    with pytest.raises(UserError, match=r"no column 'itm'; there are: .*item"):
        shards.read_sequences(shards.sequence_files()[0], columns=["itm"])


@pytest.mark.parametrize(
    ("name", "second", "twelfth"),
    [
        ("items.parquet", "items@2.parquet", "items@12.parquet"),
        ("stats.json", "stats@2.json", "stats@12.json"),
        (
            "sequences/part-00003-of-00008.parquet",
            "sequences/part-00003-of-00008@2.parquet",
            "sequences/part-00003-of-00008@12.parquet",
        ),
        ("vocabulary/event.v2.parquet", "vocabulary/event.v2@2.parquet", "vocabulary/event.v2@12.parquet"),
    ],
)
def test_versions_of_a_file(name: str, second: str, twelfth: str) -> None:
    assert [versioned(name, version) for version in (1, 2, 12)] == [name, second, twelfth]
    assert logical(second) == logical(twelfth) == name
    assert [version_in(path) for path in (name, second, twelfth)] == [1, 2, 12]


@pytest.mark.parametrize(
    "name", ["items.parquet", "a@2/b.parquet", "x@02.json", "x@.json", "sub@2", "a.v2.parquet"]
)
def test_what_has_no_mark_of_a_version(name: str) -> None:
    assert logical(name) == name
    assert version_in(name) == 1


def second_version(folder: Path) -> None:
    """Give items and one of the sequence files a second version, as `--append` does."""
    items = pa.table(
        {
            "index": [2, 3, 4],
            "id": ["x", "y", "z"],
            "count": [3] * 3,
            "train_count": [1] * 3,
            "color": [1] * 3,
        }
    )
    sequence = pa.table({"user": [5], "item": [[2, 3, 4]], "pack": [0]})
    changed = [
        write_table(items, folder, versioned("items.parquet", 2)),
        write_table(sequence, folder, versioned("sequences/part-00000.parquet", 2), events=3),
    ]
    manifest = load_manifest(folder)
    names = {logical(entry.path) for entry in changed}
    kept = [entry for entry in manifest.files if logical(entry.path) not in names]
    manifest.model_copy(update={"version": 2, "files": [*kept, *changed]}).save(folder)
    for name in names:
        (folder / name).unlink()


def test_files_are_found_by_their_logical_names(folder: Path) -> None:
    second_version(folder)
    shards = open_shards(folder)
    shards.verify()
    assert shards.items().column("id").to_pylist() == ["x", "y", "z"]
    assert shards.where("items.parquet") == str(folder / "items@2.parquet")
    assert shards.vocabulary("color").num_rows == 1
    assert [entry.path for entry in shards.sequence_files()] == [
        "sequences/part-00000@2.parquet",
        "sequences/part-00001.parquet",
    ]
    assert [table.column("user").to_pylist() for table in shards.iter_sequences()] == [[5], [2]]


def test_a_reader_of_the_old_version_keeps_what_it_opened_or_is_told(folder: Path) -> None:
    before = open_shards(folder)
    second_version(folder)
    assert before.users().num_rows == 3
    with pytest.raises(UserError, match=r"the file 'items.parquet' of the data set is missing"):
        before.items()


def test_a_feature_may_be_named_like_a_version(folder: Path) -> None:
    for name, value in (("color.v2.parquet", "blue"), ("color.v2@3.parquet", "green")):
        words = pa.table({"index": [3], "value": [value], "count": [1]})
        entry = write_table(words, folder, f"vocabulary/{name}")
        change(folder, lambda data, entry=entry: data["files"].append(entry.model_dump()))
        shards = open_shards(folder)
        assert shards.vocabulary("color").column("value").to_pylist() == ["red"]
        assert shards.vocabulary("color.v2").column("value").to_pylist() == [value]
        change(folder, lambda data: data["files"].pop())


def test_a_manifest_of_the_first_release_opens(folder: Path) -> None:
    new = ("event_features", "version", "buckets", "history", "damaged_files", "domain_ids")
    change(folder, lambda data: [data.pop(key) for key in new])
    manifest = open_shards(folder).manifest
    assert [getattr(manifest, key) for key in new] == [[], 1, None, [], [], {}]


def test_history_is_kept(folder: Path) -> None:
    added = HistoryEntry(version=2, input_digest="f00", counts=Counts(**COUNTS), files=["new.csv"])
    load_manifest(folder).model_copy(update={"version": 2, "history": [added], "buckets": 8}).save(folder)
    manifest = load_manifest(folder)
    assert (manifest.version, manifest.buckets, manifest.history) == (2, 8, [added])


@pytest.fixture
def remote(folder: Path) -> Folder:
    """The same data set in a file system that is not the computer's."""
    there = Folder(f"memory://{uuid.uuid4().hex}/data")
    for path in folder.rglob("*"):
        if path.is_file():
            there.write_bytes(path.relative_to(folder).as_posix(), path.read_bytes())
    return there


def test_a_remote_data_set_reads_like_a_local_one(folder: Path, remote: Folder) -> None:
    here, there = open_shards(folder), open_shards(str(remote))
    there.verify()
    for shards in (there, open_shards(remote)):
        assert shards.manifest == here.manifest
        assert list(shards.iter_sequences()) == list(here.iter_sequences())
        for _ in range(2):  # checked, and then read in parts
            assert shards.read_sequences(shards.sequence_files()[1], ["pack"]).column_names == ["pack"]
        assert shards.items() == here.items()
        assert shards.where("items.parquet") == f"{remote}/items.parquet"


def test_a_remote_data_set_is_checked(remote: Folder) -> None:
    data = bytearray(remote.read_bytes("items.parquet"))
    data[len(data) // 2] ^= 1
    remote.write_bytes("items.parquet", bytes(data))
    shards = open_shards(remote)
    for look in (shards.items, shards.verify):
        with pytest.raises(UserError, match=r"the checksum of 'items.parquet' is wrong") as error:
            look()
        assert error.value.where == f"{remote}/items.parquet"
    remote.remove("items.parquet")
    with pytest.raises(UserError, match="is missing"):
        shards.items()
    with pytest.raises(UserError, match="is missing"):
        open_shards(remote)
    with pytest.raises(UserError, match="is not a data set"):
        open_shards(f"{remote}/nowhere")


STATS: dict[str, Any] = {
    "users": 2,
    "events": 6,
    "items": 3,
    "density": 1.0,
    "sequence_length": {"mean": 3.0, "longest": 3, "histogram": [{"from": 2, "below": 4, "number": 2}]},
    "item_count": {"histogram": []},
    "behaviors": {"fav": 2, "buy": 4},
    "time": {"unit": "none", "first": None, "last": None},
    "users_validated": 0,
    "users_tested": 0,
    "of a later version": 1,
}


def add_file(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    entry = file_entry(folder, name, rows=0)
    change(folder, lambda record: record["files"].append(entry.model_dump()))


def test_statistics_are_read(folder: Path) -> None:
    add_file(folder, "stats@2.json", json.dumps(STATS).encode())
    assert open_shards(folder).stats() == STATS


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "nested too deep"),
        (b"[]", "should be a mapping of keys"),
        (b"{}", "users: Field required"),
        (json.dumps(STATS | {"users": "2"}).encode(), "users: Input should be a valid integer"),
        (json.dumps(STATS | {"users": 10**400}).encode(), "users: "),
        (json.dumps(STATS | {"users": 3}).encode(), "they count 3 users, the manifest counts 2"),
        (json.dumps(STATS | {"density": None}).encode(), "density: Input should be a valid number"),
        (json.dumps(STATS | {"behaviors": {"fav": 2}}).encode(), "behaviors or unit of time are not"),
        (json.dumps(STATS | {"time": {"unit": "none", "first": 3, "last": 2}}).encode(), "no span of time"),
    ],
)
def test_statistics_that_are_none(text: bytes, what: str, folder: Path) -> None:
    add_file(folder, "stats.json", text)
    with pytest.raises(UserError, match=f"the statistics are damaged: .*{what}") as error:
        open_shards(folder).stats()
    assert error.value.where == str(folder / "stats.json")


@pytest.mark.parametrize("text", [b"[1]", b'{"x": {}}', b'{"1": {"users": 1}}', b"{}"])
def test_statistics_of_partitions_that_are_none(text: bytes, folder: Path) -> None:
    add_file(folder, "buckets.json", text)
    with pytest.raises(UserError, match="the statistics are damaged"):
        open_shards(folder).partition_stats()


def test_a_table_written_far_away(remote: Folder) -> None:
    table = pa.table({"user": range(10)})
    entry = write_table(table, remote, "sequences/a.parquet", events=5_000_000)
    there = file_entry(remote, "sequences/a.parquet", rows=10, events=5_000_000)
    assert there == entry.model_copy(update={"content": ""})
    with remote.input_file("sequences/a.parquet") as file:
        assert pq.ParquetFile(file).num_row_groups == 5
