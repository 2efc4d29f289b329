"""Hand-made shard folders: what a Beam job would write, from a few readable rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from behavior.shards.folder import open_shards
from behavior.shards.manifest import FORMAT_VERSION, Counts, FeatureEntry, Manifest
from behavior.shards.write import write_table
from models.data.batch import PackedBatch
from models.data.loading import ShardSource
from models.data.sequences import SequenceData, concat_sequences


@dataclass(frozen=True)
class User:
    """One sequence; behaviors default to 1 and times to 0, 60, 120, ..."""

    item: Sequence[int]
    train_end: int
    valid_end: int
    behavior: Sequence[int] = ()
    timestamp: Sequence[int] = ()


@dataclass(frozen=True)
class Columns:
    """Sequences as flat columns, for sets that are too large for lists."""

    item: np.ndarray
    behavior: np.ndarray
    timestamp: np.ndarray
    offsets: np.ndarray
    train_end: np.ndarray
    valid_end: np.ndarray


@dataclass(frozen=True)
class World:
    """What the sequences are about."""

    num_items: int
    oov: int = 1
    behaviors: Sequence[str] = ("view",)
    targets: Sequence[str] = ("view",)
    timestamp_unit: str = "s"
    files: int = 1
    split: dict[str, Any] = field(default_factory=lambda: {"kind": "leave_one_out"})
    item_features: Sequence[FeatureEntry] = ()
    item_columns: dict[str, pa.Array] = field(default_factory=dict)
    domains: Sequence[str] = ()
    event_features: Sequence[FeatureEntry] = ()
    event_columns: dict[str, pa.Array] = field(default_factory=dict)
    """More columns of the sequences, one value an event of all users in order."""
    user_features: Sequence[FeatureEntry] = ()
    user_columns: dict[str, pa.Array] = field(default_factory=dict)
    """One value a user in order; the table of users, which there is with features, has them the other way
    round, and the last user is not in it."""


# Two behaviors, unknown items, ties, and sequences too short to train on; in two files.
USERS = [
    User([2, 3, 4, 5, 6, 7], 4, 5, behavior=[1, 2, 1, 2, 2, 2], timestamp=[10, 20, 20, 30, 45, 50]),
    User([5], 1, 1),
    User([3, 1, 2, 6], 3, 4, behavior=[2, 2, 2, 2], timestamp=[7, 8, 9, 11]),
    User([4, 4], 2, 2),
    User([6, 5, 2], 0, 1),
]
WORLD = World(num_items=6, behaviors=("view", "buy"), targets=("buy",), files=2)


def leave_one_out(*items: Sequence[int]) -> list[User]:
    """Users whose last event is the test target and the one before it the validation target."""
    return [User(row, len(row) - 2, len(row) - 1) for row in items]


def flatten(users: Sequence[User]) -> Columns:
    """The users' rows, end to end."""
    lengths = [len(user.item) for user in users]
    return Columns(
        item=np.array([i for user in users for i in user.item], dtype=np.int32),
        behavior=np.array(
            [b for user in users for b in user.behavior or [1] * len(user.item)], dtype=np.int8
        ),
        timestamp=np.array(
            [t for user in users for t in user.timestamp or range(0, 60 * len(user.item), 60)], dtype=np.int64
        ),
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        train_end=np.array([user.train_end for user in users]),
        valid_end=np.array([user.valid_end for user in users]),
    )


def write_shards(folder: Path, users: Sequence[User] | Columns, world: World) -> Path:
    """Write a complete shard folder and return it."""
    columns = users if isinstance(users, Columns) else flatten(users)
    rows = len(columns.offsets) - 1
    table = pa.table(
        {
            "user": pa.array(np.arange(rows)),
            "item": _lists(columns.offsets, columns.item),
            "behavior": _lists(columns.offsets, columns.behavior),
            "timestamp": _lists(columns.offsets, columns.timestamp),
            "train_end": pa.array(columns.train_end, pa.int32()),
            "valid_end": pa.array(columns.valid_end, pa.int32()),
            "pack": pa.array(np.arange(rows), pa.int32()),
            **{name: _lists(columns.offsets, values) for name, values in world.event_columns.items()},
        }
    )
    if world.timestamp_unit == "none":
        table = table.drop_columns(["timestamp"])
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    cuts = np.linspace(0, rows, world.files + 1).astype(int)
    for number, (start, stop) in enumerate(pairwise(cuts.tolist())):
        events = int(columns.offsets[stop] - columns.offsets[start])
        path = f"sequences/part-{number:05d}.parquet"
        files.append(write_table(table.slice(start, stop - start), folder, path, events=events))
    files.append(write_table(_items(columns, world), folder, "items.parquet"))
    if world.user_features:
        files.append(write_table(_users(rows, world), folder, "users.parquet"))
    events = len(columns.item)
    Manifest(
        format_version=FORMAT_VERSION,
        name="hand-made",
        spec={},
        spec_digest="",
        input_digest="",
        counts=Counts(
            read=events,
            accepted=events,
            rejected=0,
            filtered=0,
            events=events,
            users=rows,
            items=world.num_items,
        ),
        behaviors=list(world.behaviors),
        targets=list(world.targets),
        domains=list(world.domains),
        timestamp_unit=world.timestamp_unit,
        split=world.split,
        oov=world.oov,
        packing={"tokens": 4096, "max_length": 200},
        item_features=list(world.item_features),
        user_features=list(world.user_features),
        event_features=list(world.event_features),
        files=files,
    ).save(folder)
    return folder


def load(folder: Path) -> SequenceData:
    """All sequences of a shard folder in one."""
    return concat_sequences(list(ShardSource(open_shards(folder))))


def rows(batch: PackedBatch, column: str) -> list[list[int]]:
    """A column of a batch, one list a sequence."""
    flat, cuts = batch[column].tolist(), batch.offsets.tolist()
    return [flat[a:b] for a, b in pairwise(cuts)]


def _lists(offsets: np.ndarray, values: np.ndarray | pa.Array) -> pa.ListArray:
    flat = values if isinstance(values, pa.Array) else pa.array(values)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)


def _items(columns: Columns, world: World) -> pa.Table:
    first = 1 + world.oov
    position = np.arange(len(columns.item)) - np.repeat(columns.offsets[:-1], np.diff(columns.offsets))
    training = position < np.repeat(columns.train_end, np.diff(columns.offsets))

    def counted(chosen: np.ndarray) -> np.ndarray:
        return np.bincount(columns.item[chosen], minlength=first + world.num_items)[first:]

    index = np.arange(first, first + world.num_items)
    return pa.table(
        {
            "index": pa.array(index, pa.int32()),
            "id": pa.array(index),
            "count": pa.array(counted(np.ones_like(training)), pa.int64()),
            "train_count": pa.array(counted(training), pa.int64()),
            **world.item_columns,
        }
    )


def _users(rows: int, world: World) -> pa.Table:
    ones = pa.array([1] * rows, pa.int64())
    columns = {"id": pa.array(np.arange(rows)), "count": ones, "train_count": ones, **world.user_columns}
    known = pa.table(columns).slice(0, rows - 1).take(pa.array(range(rows - 2, -1, -1)))
    return known.add_column(0, "index", pa.array(np.arange(2, rows + 1), pa.int32()))
