"""Whether two outputs hold the same data set: a folder of `lrm prepare`, and one of the polars program."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SAMPLE = 2_000
LISTS = ("item", "behavior", "timestamp")


def check_equal(ours: Path, theirs: Path) -> str:
    """Compare item and user counts and split offsets of everyone, and the sequences of sampled users.

    Args:
        ours, theirs: output folders.

    Returns:
        What was compared.

    Raises:
        SystemExit: anything differs.
    """
    items = {folder: _sorted(folder, "items.parquet") for folder in (ours, theirs)}
    users = {folder: _sorted(folder, "users.parquet") for folder in (ours, theirs)}
    _require("items", items[ours], items[theirs])
    _require("users", users[ours], users[theirs])
    splits = [_sequences(folder, ["user", "train_end", "valid_end"]) for folder in (ours, theirs)]
    _require("split offsets", *splits)
    ids = users[ours].sort_by([("count", "descending")]).column("id")
    # The first is the user with the most events.
    chosen = np.random.default_rng(0).choice(len(ids), min(SAMPLE, len(ids)), replace=False)
    sample = pc.unique(pa.concat_arrays([ids.take(pa.array([0, *chosen])).combine_chunks()]))
    sequences = [_raw_sequences(folder, sample, items[folder]) for folder in (ours, theirs)]
    _require("sequences", *sequences)
    events = len(sequences[0].column("item").combine_chunks().flatten())
    return (
        f"equal: counts of {items[ours].num_rows:,} items and {len(ids):,} users, their split offsets, and "
        f"{len(sample):,} sequences with {events:,} events by raw ids"
    )


def _sorted(folder: Path, name: str) -> pa.Table:
    table = pq.read_table(folder / name, columns=["index", "id", "count", "train_count"])
    kinds = pa.schema([("index", pa.int32()), *((n, pa.int64()) for n in table.column_names[1:])])
    return table.cast(kinds).sort_by("index")


def _sequences(folder: Path, columns: list[str], filters: pc.Expression | None = None) -> pa.Table:
    return pq.read_table(folder / "sequences", columns=columns, filters=filters).sort_by("user")


def _raw_sequences(folder: Path, users: pa.Array, items: pa.Table) -> pa.Table:
    """Sequences of some users, with raw ids of the items."""
    found = _sequences(folder, ["user", *LISTS], pc.field("user").isin(users))
    columns = {"user": found.column("user")}
    for name in LISTS:
        lists = found.column(name).combine_chunks()
        values = lists.flatten()
        if name == "item":
            places = pc.subtract(values, items.column("index")[0])
            values = items.column("id").take(places).combine_chunks()
        lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        columns[name] = pa.ListArray.from_arrays(offsets, values.cast(pa.int64()))
    return pa.table(columns)


def _require(what: str, ours: pa.Table, theirs: pa.Table) -> None:
    for name in ours.column_names:
        left, right = ours.column(name).combine_chunks(), theirs.column(name).combine_chunks()
        if not left.equals(right.cast(left.type)):
            sys.exit(f"lrm and polars differ: {what}, column {name}")
