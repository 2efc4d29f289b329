from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from behavior.errors import UserError
from behavior.manifest import FORMAT_VERSION, Counts, FeatureEntry, Manifest, load_manifest
from behavior.shards import open_shards, sha256_of, write_table

COUNTS = {"read": 9, "accepted": 6, "rejected": 1, "filtered": 2, "events": 6, "users": 2, "items": 3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished data set of two users and three items."""
    sequences = [
        pa.table({"user": [user], "item": pa.array([[2, 3, 4]], pa.list_(pa.int32())), "pack": [0]})
        for user in (1, 2)
    ]
    items = pa.table({"index": [2, 3, 4], "id": ["a", "b", "c"], "count": [2] * 3, "train_count": [1] * 3})
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
        assert entry.sha256 == sha256_of(folder / entry.path)


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
