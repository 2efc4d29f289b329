"""The same work the way a first Beam pipeline does it: one element an event, on the in-process runner.

python benchmarks/prepare_peers/naive_beam.py INPUT_FOLDER OUT_FOLDER SEQUENCE_FILES
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.parquetio import ReadFromParquet, WriteToParquet
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

BEHAVIORS = {"pv": 1, "fav": 2, "cart": 3, "buy": 4}
TARGET = BEHAVIORS["buy"]
FIRST_INDEX = 2
MIN_EVENTS = 3
SEQUENCES = pa.schema(
    [
        ("user", pa.int64()),
        ("item", pa.list_(pa.int32())),
        ("behavior", pa.list_(pa.int8())),
        ("timestamp", pa.list_(pa.int64())),
        ("train_end", pa.int32()),
        ("valid_end", pa.int32()),
    ]
)
COUNTS = pa.schema([(name, pa.int64()) for name in ("index", "id", "count", "train_count")])

Row = dict[str, Any]
Count = tuple[int, int]  # events, events in training parts


def sequence(element: tuple[int, Iterable[Row]]) -> Row:
    """A user's events -> the row of its sequence: sorted by time, cut by its last two purchases."""
    user, rows = element
    events = sorted(rows, key=lambda row: row["timestamp"])
    behaviors = [BEHAVIORS[row["behavior"]] for row in events]
    targets = [place for place, behavior in enumerate(behaviors) if behavior == TARGET]
    split = len(targets) >= 2 and len(events) >= MIN_EVENTS
    return {
        "user": user,
        "item": [row["item"] for row in events],
        "behavior": behaviors,
        "timestamp": [row["timestamp"] for row in events],
        "train_end": targets[-2] if split else len(events),
        "valid_end": targets[-1] if split else len(events),
    }


def item_events(row: Row) -> Iterator[tuple[int, Count]]:
    """Each event's item, and whether it is in the training part."""
    for place, item in enumerate(row["item"]):
        yield item, (1, int(place < row["train_end"]))


def add(counts: Iterable[Count]) -> Count:
    events = train = 0
    for count in counts:
        events, train = events + count[0], train + count[1]
    return events, train


def ranked(counts: list[tuple[int, Count]]) -> list[Row]:
    """Rows of a table of counts, by falling count, ties by id."""
    ordered = sorted(counts, key=lambda entry: (-entry[1][0], entry[0]))
    return [
        {"index": place, "id": id, "count": count, "train_count": train}
        for place, (id, (count, train)) in enumerate(ordered, FIRST_INDEX)
    ]


def with_indices(row: Row, items: dict[int, int]) -> Row:
    return {**row, "item": [items[item] for item in row["item"]]}


def main() -> None:
    folder, out, files = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with beam.Pipeline(FnApiRunner()) as pipeline:
        sequences = (
            pipeline
            | "Read" >> ReadFromParquet(f"{folder}/*.parquet")
            | "ByUser" >> beam.Map(lambda row: (row["user"], row))
            | "Group" >> beam.GroupByKey()
            | "Sequence" >> beam.Map(sequence)
        )
        items = (
            sequences
            | "ItemEvents" >> beam.FlatMap(item_events)
            | "CountItems" >> beam.CombinePerKey(add)
            | "ItemList" >> beam.combiners.ToList()
            | "RankItems" >> beam.FlatMap(ranked)
        )
        users = (
            sequences
            | "Lengths" >> beam.Map(lambda row: (row["user"], (len(row["item"]), row["train_end"])))
            | "UserList" >> beam.combiners.ToList()
            | "RankUsers" >> beam.FlatMap(ranked)
        )
        index = items | "Index" >> beam.Map(lambda row: (row["id"], row["index"]))
        indexed = sequences | "WithIndices" >> beam.Map(with_indices, beam.pvalue.AsDict(index))
        for label, rows, schema, shards in (
            ("sequences/part", indexed, SEQUENCES, max(2, files)),
            ("items", items, COUNTS, 1),
            ("users", users, COUNTS, 1),
        ):
            path = f"{out}/{label}"
            rows | f"Write {label}" >> WriteToParquet(
                path,
                schema,
                codec="zstd",
                file_name_suffix=".parquet",
                num_shards=shards,
                shard_name_template=None if shards > 1 else "",
            )


if __name__ == "__main__":
    main()
