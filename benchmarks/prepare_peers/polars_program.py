"""The same work as one polars program: events in Parquet -> sequences, items, users and checksums.

    python benchmarks/prepare_peers/polars_program.py INPUT_FOLDER OUT_FOLDER SEQUENCE_FILES

The fastest of several ways tried with polars 2.1 on 20 million events and two cores, and the one with the
least memory:

- Files are read one after the other and dealt out to partitions by the hash of the user, so that the log is
  never in memory twice. (One scan of all and one `partition_by`: as fast, 1.7 times the memory.)
- A partition is sorted by time (stable; fast, as logs are nearly in order), then `group_by` makes the lists:
  it keeps the order of rows within a group. (`sort_by` in the aggregation: a tenth slower. `sort_by(..).over`
  to flat rows: nearly the time of this whole program by itself. Sorting by user and time: more than twice the
  time of the whole, as sorting by several columns encodes rows.)
- Items are joined to their indices partition by partition: 0.6 s instead of 0.9 s for the whole log.
- Two threads take partitions while polars uses its own pool: the one-threaded steps of one partition
  (checksum, parts of the writer) overlap with the work of another. (Without: a seventh slower.)
- The streaming engine was slower or no faster for reading, joining and grouping, with 1.5 times the memory.

It leaves out what `lrm prepare` does beside: checks of every row, packs, statistics, and equal bytes whatever
the machine.
"""

from __future__ import annotations

import hashlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

BEHAVIORS = {"pv": 1, "fav": 2, "cart": 3, "buy": 4}
TARGET = BEHAVIORS["buy"]
FIRST_INDEX = 2  # after padding and one index for unknown ids
MIN_EVENTS = 3
LISTS = ("item", "behavior", "timestamp")


def read_partitions(folder: Path, partitions: int) -> list[pl.DataFrame]:
    """All events, behaviors as ids, by the hash of the user; each partition in the order of the log."""
    pieces: list[list[pl.DataFrame]] = [[] for _ in range(partitions)]
    for path in sorted(folder.glob("*.parquet")):
        events = (
            pl.scan_parquet(path)
            .with_columns(
                pl.col("behavior").replace_strict(BEHAVIORS, return_dtype=pl.Int8),
                partition=(pl.col("user").hash() % partitions).cast(pl.UInt16),
            )
            .collect()
        )
        for (number,), rows in events.partition_by("partition", include_key=False, as_dict=True).items():
            pieces[int(number)].append(rows)
    return [pl.concat(rows) for rows in pieces if rows]


def indexed(counts: pl.DataFrame) -> pl.DataFrame:
    """Ids by falling count, ties by id, with an index."""
    ordered = counts.sort("count", "id", descending=[True, False])
    return ordered.with_columns(
        index=pl.int_range(FIRST_INDEX, FIRST_INDEX + ordered.height, dtype=pl.Int32, eager=True)
    )


def with_split(sequences: pl.DataFrame) -> pl.DataFrame:
    """Leave one out: the user's last purchase is the test target, the one before it the validation target."""
    lengths = pl.col("behavior").list.len().cast(pl.Int32)
    sequences = sequences.with_columns(count=lengths).with_row_index("row")
    begins = sequences["count"].cum_sum() - sequences["count"]
    places = (sequences["behavior"].explode() == TARGET).arg_true().cast(pl.Int32)
    rows = begins.search_sorted(places, side="right") - 1
    targets = (
        pl.DataFrame({"row": rows, "place": places})
        .group_by("row")
        .agg(last=pl.col("place").last(), previous=pl.col("place").get(-2, null_on_oob=True))
    )
    joined = sequences.with_columns(begin=begins).join(targets, on="row", how="left", maintain_order="left")
    split = pl.col("previous").is_not_null() & (pl.col("count") >= MIN_EVENTS)
    return joined.with_columns(
        train_end=pl.when(split).then(pl.col("previous") - pl.col("begin")).otherwise("count"),
        valid_end=pl.when(split).then(pl.col("last") - pl.col("begin")).otherwise("count"),
    )


def late_counts(sequences: pl.DataFrame) -> pl.DataFrame:
    """How many events of each item come after the training part."""
    late = pl.col("count") - pl.col("train_end")
    cut = sequences.lazy().filter(late > 0).select(pl.col("item").list.tail(late).explode())
    return cut.group_by("item").agg(late=pl.len()).collect()


def write(table: pl.DataFrame, out: Path, name: str) -> dict[str, str]:
    """Write one file; its name and checksum. Level 1 is what Arrow, and so `lrm`, takes for zstd."""
    table.write_parquet(out / name, compression="zstd", compression_level=1)
    with (out / name).open("rb") as file:
        return {"path": name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def main() -> None:
    folder, out, partitions = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    (out / "sequences").mkdir(parents=True)
    parts = read_partitions(folder, partitions)
    item_ids = pl.concat([part.select(id="item") for part in parts])
    items = indexed(item_ids.group_by("id").agg(count=pl.len()))
    del item_ids
    known = items.select("index", item="id")
    held: list[pl.DataFrame | None] = [*parts]
    del parts

    def finish(number: int) -> tuple[dict[str, str], pl.DataFrame, pl.DataFrame]:
        part, held[number] = held[number], None  # its memory goes as soon as it is done
        assert part is not None
        events = part.join(known, on="item", how="left", maintain_order="left").select(
            "user", "behavior", "timestamp", item="index"
        )
        ordered = events.sort("timestamp", maintain_order=True)
        sequences = with_split(ordered.group_by("user").agg(pl.col(LISTS)))
        table = sequences.select("user", *LISTS, "train_end", "valid_end")
        entry = write(table, out, f"sequences/part-{number:05d}.parquet")
        return entry, sequences.select("count", "train_end", id="user"), late_counts(sequences)

    with ThreadPoolExecutor(2) as threads:
        finished = list(threads.map(finish, range(len(held))))
    users = indexed(pl.concat([users for _, users, _ in finished]))
    late = pl.concat([late for _, _, late in finished]).group_by(index="item").agg(pl.col("late").sum())
    in_train = pl.col("count").cast(pl.Int64) - pl.col("late").fill_null(0).cast(pl.Int64)
    items = items.join(late, on="index", how="left", maintain_order="left")
    files = [entry for entry, _, _ in finished]
    files.append(write(items.select("index", "id", "count", train_count=in_train), out, "items.parquet"))
    users = users.select("index", "id", "count", train_count="train_end")
    files.append(write(users, out, "users.parquet"))
    (out / "manifest.json").write_text(json.dumps({"files": files}), encoding="utf-8")


if __name__ == "__main__":
    main()
