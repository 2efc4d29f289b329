"""Small logs on disk, and the plain way to read a whole one."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import settings

from behavior.config import parse_config
from behavior.sources import Reject, plan_input
from behavior.spec.dataset_spec import DatasetSpec
from behavior.steps.events import read_events

few = settings(max_examples=60, deadline=None)
"""Examples for tests that touch the disk or a parser."""

many = settings(max_examples=150, deadline=None)
"""Examples for tests in memory."""


@contextmanager
def folder_of(**files: bytes | str) -> Iterator[Path]:
    """A folder of files that is gone afterwards; `__` in a name stands for a dot."""
    with tempfile.TemporaryDirectory() as name:
        for file, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            (Path(name) / file.replace("__", ".")).write_bytes(data)
        yield Path(name)


def make_spec(source: dict[str, Any] | None = None, **changes: Any) -> DatasetSpec:
    """A spec of `log.csv` with columns user, item and time; `source` changes the event files."""
    events = {
        "files": "log.csv",
        "columns": {"user": "user", "item": "item", "timestamp": "time"},
        **(source or {}),
    }
    data = {"name": "test", "events": events, "timestamp_unit": "s", **changes}
    return parse_config(DatasetSpec, data, where="test")


def untimed_spec(source: dict[str, Any] | None = None, **changes: Any) -> DatasetSpec:
    """A spec of `log.csv` with columns user and item, where the order counts."""
    return make_spec(
        {"columns": {"user": "user", "item": "item"}, **(source or {})}, timestamp_unit="none", **changes
    )


@dataclass(frozen=True)
class Reading:
    """A log that was read."""

    events: pa.Table
    rejects: list[Reject]
    read: int
    filtered: int

    def rows(self, *names: str) -> list[tuple[Any, ...]]:
        """Values of some columns, event by event."""
        return list(zip(*(self.events.column(name).to_pylist() for name in names), strict=True))

    @property
    def reasons(self) -> list[tuple[int, str]]:
        """Line and reason of each reject."""
        return [(reject.place, reject.reason) for reject in self.rejects]


def read_log(spec: DatasetSpec, folder: Path, chunk_bytes: int = 1 << 20) -> Reading:
    """Read all chunks one after the other, with the lines of rejects counted from the start of each file."""
    plan = plan_input(spec, str(folder), chunk_bytes)
    lines: dict[tuple[int, int], int] = defaultdict(int)
    batches, rejects, read, filtered = [], [], 0, 0
    for chunk in plan.chunks:
        key = (chunk.source, chunk.file)
        before = lines[key]
        for batch in read_events(spec, plan, chunk, Path(chunk.path).name):
            lines[key] = before + batch.lines
            batches.append(batch.events)
            rejects += [
                Reject(r.file, r.place + before, r.reason, r.text, r.row_group) for r in batch.rejects
            ]
            read, filtered = read + batch.read, filtered + batch.filtered
    table = pa.Table.from_batches(batches) if batches else pa.table({"user": [], "item": []})
    return Reading(table, rejects, read, filtered)


def in_blocks_of(size: int) -> Callable[..., Iterator[bytes]]:
    """`iter_blocks` with small blocks, to put in its place."""
    from behavior.sources import blocks

    def iter_blocks(path: str, compression: str | None, start: int = 0, end: int | None = None):
        return blocks.iter_blocks(path, compression, start, end, block_bytes=size)

    return iter_blocks
