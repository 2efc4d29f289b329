"""Synthetic event logs: the same events as Parquet and as CSV, and the spec that reads them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

FILES = 8
EVENTS_A_USER = 50
ITEMS = 200_000
HEAVY_SHARE = 0.02
"""Share of all events that one single user has."""
RAW_BEHAVIORS = ["pv", "fav", "cart", "buy"]
BEHAVIOR_SHARES = [0.80, 0.05, 0.11, 0.04]
FIRST_TIME = 1_700_000_000_000
MONTH = 30 * 86_400_000
DISORDER = 60_000
"""Milliseconds by which an event may come late in the log."""
TICK = 10
"""Times are multiples of this many milliseconds, so that the events of a user tie now and then."""
SPEC = """\
name: events
events:
  files: "*.{kind}"
  columns: {{user: user, item: item, timestamp: timestamp}}
  behavior: {{column: behavior, map: {{pv: view}}}}
timestamp_unit: ms
behaviors: [view, fav, cart, buy]
targets: [buy]
id_types: {{user: integer, item: integer}}
split: {{kind: leave_one_out}}
"""


def scattered(ranks: np.ndarray) -> np.ndarray:
    """Ids of ranks: different ones for different ranks, without order. int64"""
    return (ranks.astype(np.uint64) * np.uint64(2_654_435_761) % np.uint64(1 << 32)).astype(np.int64)


def event_tables(events: int, seed: int = 0) -> Iterator[pa.Table]:
    """The log, a table a file: user, item (int64), behavior (dictionary of string), timestamp (int64, ms).

    A user for every 50 events, with log-normal activity; 200,000 Zipf items; times roughly in order; one
    user has 2 % of all events.
    """
    random = np.random.default_rng(seed)
    activity = _activity(random, events)
    bounds = np.linspace(0, events, FILES + 1).astype(int).tolist()
    for begin, end in pairwise(bounds):
        yield _table(random, activity, events, begin, end)


def _activity(random: np.random.Generator, events: int) -> np.ndarray:
    """Of users, cumulated."""
    return np.cumsum(random.lognormal(0.0, 1.0, max(2, events // EVENTS_A_USER)))


def _table(random: np.random.Generator, activity: np.ndarray, events: int, begin: int, end: int) -> pa.Table:
    """The events from `begin` to before `end`."""
    popularity = np.cumsum((np.arange(ITEMS) + 10.0) ** -1.05)
    shares = np.cumsum(BEHAVIOR_SHARES)
    size = end - begin
    user = np.searchsorted(activity, random.random(size) * activity[-1])
    user[random.random(size) < HEAVY_SHARE] = len(activity)  # one more user than those of `activity`
    item = np.searchsorted(popularity, random.random(size) * popularity[-1])
    behavior = np.searchsorted(shares, random.random(size) * shares[-1]).astype(np.int8)
    time = np.arange(begin, end) * MONTH // events + random.integers(0, DISORDER, size)
    return pa.table(
        {
            "user": scattered(user),
            "item": scattered(item),
            "behavior": pa.DictionaryArray.from_arrays(behavior, pa.array(RAW_BEHAVIORS)),
            "timestamp": FIRST_TIME + time // TICK * TICK,
        }
    )


def write_part(folder: Path, events: int, parts: int, number: int) -> None:
    """Write one of the files of such a log, from random numbers of its own: many are made at once."""
    begin, end = events * number // parts, events * (number + 1) // parts
    activity = _activity(np.random.default_rng(0), events)
    table = _table(np.random.default_rng([0, number]), activity, events, begin, end)
    path = folder / f"events-{number:02d}.parquet"
    pq.write_table(table, path, compression="zstd", row_group_size=1_000_000)


def write_events(folder: Path, events: int, kind: str) -> Path:
    """Write the log as 8 files, `kind` parquet or csv, unless it is there; the path of its spec."""
    spec = folder / "spec.yaml"
    if spec.exists():
        return spec
    folder.mkdir(parents=True, exist_ok=True)
    for number, table in enumerate(event_tables(events)):
        path = folder / f"events-{number}.{kind}"
        if kind == "parquet":
            pq.write_table(table, path, compression="zstd", row_group_size=1_000_000)
        else:
            plain = table.set_column(2, "behavior", table.column("behavior").cast(pa.string()))
            pa_csv.write_csv(plain, path, pa_csv.WriteOptions(quoting_style="none"))
    spec.write_text(SPEC.format(kind=kind), encoding="utf-8")
    return spec


def warm(folder: Path) -> int:
    """Read all files of a folder once, so that the page cache holds them for everyone; bytes."""
    return sum(len(path.read_bytes()) for path in folder.iterdir() if path.is_file())
