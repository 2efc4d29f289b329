"""A scorer without a model: what a user did, counted, so that every answer can be worked out by hand."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from behavior.errors import UserError
from behavior.shards.storage import Folder
from behavior.sources.histories import HistoryColumns, has_lists

COLUMNS = HistoryColumns(("user", "item", "timestamp"))


class Counting:
    """Gives each user the sum of its items, the number of its events and the last time; else nothing.

    Items are numbers from 1 to 99.
    """

    def __init__(self, dies: Path | None = None) -> None:
        self.dies = dies

    def encode(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, list[tuple[int, str, str | None]]]:
        events, bad = [], []
        lists = has_lists(rows.schema)
        for number, row in enumerate(rows.to_pylist()):
            pairs = (
                zip(row["item"], row["timestamp"], strict=True)
                if lists
                else [(row["item"], row["timestamp"])]
            )
            own = [(int(item), int(time)) for item, time in pairs if item not in (None, b"", "")]
            if any(not 1 <= item <= 99 for item, _ in own):
                bad.append((number, f"item {own[0][0]} is no item", "take another"))
                continue
            events += [(number, item, time) for item, time in own or [(0, 0)]]
        columns = np.array(events, np.int64).reshape(-1, 3).T
        names = ("row", "item", "timestamp")
        found = dict(zip(names, map(pa.array, columns), strict=True))
        # As of a feature with several values; nothing is made of it.
        found["several"] = pa.array([[item] for _, item, _ in events], pa.list_(pa.int32()))
        return pa.RecordBatch.from_pydict(found), bad

    def score(self, events: pa.RecordBatch) -> tuple[pa.RecordBatch, Mapping[str, int]]:
        if self.dies is not None and not self.dies.exists():
            self.dies.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        found: dict[int, tuple[object, list[tuple[int, int]]]] = {}
        for row in events.to_pylist():
            _, own = found.setdefault(row["number"], (row["user"], []))
            own += [(row["item"], row["timestamp"])] if row["item"] else []
        rows = [
            {"user": user, "sum": sum(item for item, _ in own), "events": len(own), "last": own[-1][1]}
            for user, own in found.values()
            if own
        ]
        kinds = [("user", events.schema.field("user").type), ("sum", pa.int64())]
        schema = pa.schema([*kinds, ("events", pa.int64()), ("last", pa.int64())])
        counts = {
            "users": len(found),
            "empty": len(found) - len(rows),
            "odd": sum(r["sum"] % 2 for r in rows),
        }
        return pa.RecordBatch.from_pylist(rows, schema), counts

    def part(self, number: int) -> Iterator[tuple[pa.RecordBatch, Mapping[str, int]]]:
        if number == 3:
            raise UserError("part 3 is damaged", where="data", fix="get it again")
        table = pa.table({"user": [f"u{number}"], "sum": [number]})
        yield table.to_batches()[0], {"users": 1, "empty": 0}


@dataclass(frozen=True)
class Factory:
    """Picklable, by reference."""

    dies: Path | None = None

    def __call__(self) -> Counting:
        return Counting(self.dies)


@dataclass(frozen=True)
class Stage:
    """Leaves nothing for workers."""

    dies: Path | None = None

    def __call__(self, folder: Folder) -> Factory:
        return Factory(self.dies)
