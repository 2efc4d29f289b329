"""Files that do not fit the format, though their checksums are right: every reader tells it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from behavior.shards.storage import as_folder
from models.data.catalog import ItemCatalog
from models.data.loading import ShardSource
from tests.models.shards import USERS, WORLD, write_shards

PART = "sequences/part-00000.parquet"
Edit = Callable[[pa.Table], pa.Table]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_shards(tmp_path / "data", USERS, WORLD)


def enter(folder: Path, name: str) -> None:
    """Put a file's size and checksum into the manifest."""
    place, path = as_folder(folder), folder / "manifest.json"
    record = json.loads(path.read_text())
    for entry in record["files"]:
        if entry["path"] == name:
            entry.update(bytes=place.size(name), sha256=place.sha256(name))
    path.write_text(json.dumps(record))


def rewrite(folder: Path, name: str, edit: Edit) -> None:
    pq.write_table(edit(pq.read_table(folder / name, partitioning=None)), folder / name)
    enter(folder, name)


def column(name: str, change: Callable[[Any], Any], kind: pa.DataType | None = None) -> Edit:
    """Change the values of a column, row by row."""

    def edit(table: pa.Table) -> pa.Table:
        place, old = table.column_names.index(name), table.column(name)
        return table.set_column(
            place, name, pa.array([change(row) for row in old.to_pylist()], kind or old.type)
        )

    return edit


def first(value: Any) -> Callable[[list], list]:
    return lambda row: [value, *row[1:]]


DAMAGE: dict[str, tuple[Edit, str]] = {
    "a missing time": (column("timestamp", first(None)), "'timestamp' has events without a value"),
    "missing items": (column("item", first(None)), "'item' has events without|says .* events"),
    "a missing list": (column("item", lambda row: None), "'item' has rows without a value|says .* events"),
    "times reversed": (column("timestamp", lambda row: row[::-1]), "times that are not in order"),
    "a behavior beyond": (column("behavior", first(100)), "'behavior' has values that are not from 1 to 2"),
    "a behavior of 257": (
        column("behavior", first(257), pa.list_(pa.int32())),
        "'behavior' has values that are not from 1 to 2",
    ),
    "an item of 2^32 + 5": (
        column("item", first(2**32 + 5), pa.list_(pa.int64())),
        "'item' has values that are not from 1 to 7",
    ),
    "an item of 0": (column("item", first(0)), "'item' has values that are not from 1 to 7"),
    "items that are floats": (column("item", first(3), pa.list_(pa.float64())), "'item' has values of type"),
    "one item a row": (column("item", lambda _: 5, pa.int32()), "'item' is of type int32|says .* events"),
    "lists of lists": (
        column("item", lambda row: [row], pa.list_(pa.list_(pa.int32()))),
        "'item' has values of type list",
    ),
    "a list of cuts": (
        column("train_end", lambda row: [row], pa.list_(pa.int32())),
        "'train_end' is of type",
    ),
    "a missing cut": (column("valid_end", lambda _: None), "'valid_end' has rows without a value"),
    "a cut below zero": (column("train_end", lambda _: -1), "'train_end' has values"),
    "a cut beyond": (column("valid_end", lambda _: 99), "a cut outside its sequence"),
    "columns of other lengths": (column("behavior", lambda row: row[:-1]), "columns of different lengths"),
    "fewer rows": (lambda table: table.slice(1), "the manifest says 2 users, the file has 1"),
    "more rows": (lambda table: pa.concat_tables([table] * 2), "says 2 users, the file has 4"),
    "fewer events": (
        lambda table: column("item", lambda row: row[:1])(column("behavior", lambda row: row[:1])(table)),
        "says .* events|different lengths",
    ),
    "no such column": (lambda table: table.drop_columns(["item"]), "no column 'item'"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_sequences_are_told_by_every_reader(kind: str, folder: Path) -> None:
    edit, what = DAMAGE[kind]
    rewrite(folder, PART, edit)
    needed = ["user", "item", "behavior", "timestamp", "train_end", "valid_end"]
    for read in (
        lambda: list(open_shards(folder).iter_sequences(needed)),
        lambda: list(ShardSource(open_shards(folder))),
    ):
        with pytest.raises(UserError, match=what) as error:
            read()
        assert str(folder) in str(error.value.where)


def test_wider_types_are_read_where_every_value_fits(folder: Path) -> None:
    """Other programs may write the format, too."""
    expected = [part.events for part in ShardSource(open_shards(folder))]
    wide = {"item": pa.int64(), "behavior": pa.int32(), "timestamp": pa.int64()}
    for name, kind in wide.items():
        rewrite(folder, PART, column(name, lambda row: row, pa.large_list(kind)))
    found = [part.events for part in ShardSource(open_shards(folder))]
    for ours, theirs in zip(expected, found, strict=True):
        for name in wide:
            assert ours[name].tolist() == theirs[name].tolist()
            assert ours[name].dtype == theirs[name].dtype
    table = next(open_shards(folder).iter_sequences())
    assert table.schema.field("item").type == pa.list_(pa.int32())


def test_a_truncated_part_is_damaged(folder: Path) -> None:
    (folder / PART).write_bytes((folder / PART).read_bytes()[:400])
    enter(folder, PART)
    with pytest.raises(UserError, match="the sequences are damaged: the file cannot be read"):
        list(open_shards(folder).iter_sequences())
    with pytest.raises(UserError, match="the sequences are damaged: the file cannot be read"):
        ShardSource(open_shards(folder))


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda table: table.slice(1), "the manifest says 6 rows, the file has 5"),
        (lambda table: table.drop_columns(["train_count"]), "there is no column 'train_count'"),
        (column("index", lambda row: row + 1), "indices do not count up"),
        (column("index", lambda row: 2), "indices do not count up"),
        (column("index", lambda row: 2**32 + row, pa.int64()), "'index' has values"),
        (column("count", lambda _: -1), "'count' has values"),
        (column("train_count", lambda _: None), "'train_count' has rows without a value"),
        (column("id", lambda row: [row], pa.list_(pa.int64())), "'id' is of type"),
    ],
)
def test_a_damaged_item_table_is_told(edit: Edit, what: str, folder: Path) -> None:
    rewrite(folder, "items.parquet", edit)
    for read in (lambda: open_shards(folder).items(), lambda: ItemCatalog.from_shards(open_shards(folder))):
        with pytest.raises(UserError, match=f"the items are damaged: .*{what}"):
            read()


def set_key(*keys: str, to: Any) -> Callable[[dict], None]:
    def edit(record: dict[str, Any]) -> None:
        for key in keys[:-1]:
            record = record[key]
        record[keys[-1]] = to

    return edit


def list_fewer_users(record: dict[str, Any]) -> None:
    record["files"][0]["rows"] -= 1


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (set_key("split", to={}), "split: its kind is none of leave_one_out, next_basket, temporal"),
        (set_key("split", to={"kind": "temporol"}), "split: its kind"),
        (set_key("behaviors", to=[]), "targets: they are not among the behaviors"),
        (set_key("behaviors", to=["buy", "buy"]), "a name stands there twice"),
        (set_key("targets", to=["like"]), "targets: they are not among the behaviors"),
        (set_key("timestamp_unit", to="ns"), "timestamp_unit"),
        (set_key("oov", to=-1), "oov"),
        (set_key("oov", to=10**30), "oov"),
        (set_key("version", to=0), "version"),
        (set_key("counts", "users", to=-5), "counts: a number is negative"),
        (set_key("counts", "items", to=10**25), "counts.items"),
        (set_key("counts", "users", to=99), "it counts 99 users, the files that it lists have 5"),
        (set_key("counts", "items", to=7), "it counts 7 items, the files that it lists have 6"),
        (list_fewer_users, "it counts 5 users, the files that it lists have 4"),
        (lambda record: record["files"].append(record["files"][0]), "a file stands there twice"),
    ],
)
def test_a_manifest_that_does_not_agree_with_itself(
    edit: Callable[[dict], None], what: str, folder: Path
) -> None:
    path = folder / "manifest.json"
    record = json.loads(path.read_text())
    edit(record)
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=what) as error:
        open_shards(folder)
    assert error.value.where == str(path)
    assert "--overwrite" in str(error.value.fix)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "\x00", "9" * 5_000])
def test_a_manifest_that_no_program_would_write(text: str, folder: Path) -> None:
    (folder / "manifest.json").write_text(text)
    with pytest.raises(UserError, match="manifest"):
        open_shards(folder)
