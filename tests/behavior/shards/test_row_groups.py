"""Row groups, read one by one, against the whole files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from behavior.shards.manifest import load_manifest
from behavior.shards.row_groups import RowGroupReader
from behavior.shards.storage import as_folder
from tests.models.shards import User, World, write_shards

USERS = [User([2 + n % 5] * (1 + n % 4), 1, 1) for n in range(30)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files; the second one rewritten in row groups of three rows, with its new checksum."""
    folder = write_shards(tmp_path / "data", USERS, World(num_items=5, files=3))
    path = "sequences/part-00001.parquet"
    pq.write_table(pq.read_table(folder / path), folder / path, row_group_size=3)
    manifest = load_manifest(as_folder(folder))
    place = as_folder(folder)
    files = [
        entry.model_copy(update={"bytes": place.size(path), "sha256": place.sha256(path)})
        if entry.path == path
        else entry
        for entry in manifest.files
    ]
    manifest.model_copy(update={"files": files}).save(folder)
    return folder


def test_row_groups_are_the_files_in_pieces(folder: Path) -> None:
    shards = open_shards(folder)
    reader = RowGroupReader(shards)
    assert [group.rows for group in reader.groups] == [10, 3, 3, 3, 1, 10]
    assert [group.first_row for group in reader.groups] == [0, 10, 13, 16, 19, 20]
    assert [group.events for group in reader.groups] == [
        sum(len(user.item) for user in USERS[group.first_row : group.first_row + group.rows])
        for group in reader.groups
    ]
    columns = ["item", "train_end"]
    pieces = [reader.read(group, columns) for group in reader.groups]
    assert all(piece.column("item").num_chunks == 1 for piece in pieces)
    whole = pa.concat_tables(list(shards.iter_sequences(columns)))
    assert pa.concat_tables(pieces).combine_chunks() == whole.combine_chunks()


def test_a_column_that_is_not_there_is_named(folder: Path) -> None:
    reader = RowGroupReader(open_shards(folder))
    with pytest.raises(UserError, match="no column 'price'; there are: user, item"):
        reader.read(reader.groups[0], ["item", "price"])


def test_a_changed_file_is_found_at_its_first_reading(folder: Path) -> None:
    reader = RowGroupReader(open_shards(folder))
    path = folder / "sequences/part-00002.parquet"
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(bytes(data))
    reader.read(reader.groups[0], ["item"])
    with pytest.raises(UserError, match="checksum"):
        reader.read(reader.groups[-1], ["item"])


def test_a_remote_data_set_is_read_by_ranges(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rows; no file is fetched whole."""
    system = fsspec.filesystem("memory")
    system.put(str(folder), "/row-groups", recursive=True)
    local, remote = (RowGroupReader(open_shards(place)) for place in (folder, "memory://row-groups"))
    monkeypatch.setattr(type(remote.shards.folder), "read_bytes", None)
    opened: list[str] = []
    open_file = type(system).open

    def watched(self: Any, path: str, mode: str = "rb", **options: Any) -> Any:
        opened.append(options["cache_type"])
        return open_file(self, path, mode, **options)

    monkeypatch.setattr(type(system), "open", watched)
    for here, there in zip(local.groups, remote.groups, strict=True):
        assert local.read(here, ["item"]) == remote.read(there, ["item"])
    assert set(opened) == {"none"}  # nothing is fetched beyond what is asked for
    system.rm("/row-groups", recursive=True)


def test_a_file_is_hashed_once_by_however_many_threads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = RowGroupReader(open_shards(folder))
    hashed: list[str] = []
    sha256 = type(reader.shards.folder).sha256

    def watched(self: Any, name: str) -> str:
        hashed.append(name)
        return sha256(self, name)

    monkeypatch.setattr(type(reader.shards.folder), "sha256", watched)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda group: reader.read(group, ["item"]), reader.groups))
    assert len(hashed) == len(set(hashed)) == 3


def test_a_damaged_end_of_a_file_is_named(folder: Path) -> None:
    path = folder / "sequences/part-00002.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:-20] + bytes(20))
    with pytest.raises(UserError, match=r"(?s)checksum.*part-00002"):
        RowGroupReader(open_shards(folder))


def test_a_damaged_row_group_of_a_remote_data_set_is_named(folder: Path) -> None:
    """Its checksum is not known, but what cannot be decoded is told."""
    path = folder / "sequences/part-00000.parquet"
    data = bytearray(path.read_bytes())
    start = pq.read_metadata(path).row_group(0).column(1).data_page_offset
    data[start : start + 40] = np.full(40, 255, np.uint8).tobytes()
    path.write_bytes(bytes(data))
    system = fsspec.filesystem("memory")
    system.put(str(folder), "/damaged", recursive=True)
    reader = RowGroupReader(open_shards("memory://damaged"))
    with pytest.raises(UserError, match=r"(?s)row group 0 of the sequence file cannot be read.*part-00000"):
        reader.read(reader.groups[0], ["item"])
    system.rm("/damaged", recursive=True)
