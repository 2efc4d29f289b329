"""Files in the published form of data sets, read by their ready specs."""

from __future__ import annotations

import gzip
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior.flow.memory import PreparedTables, prepare_tables
from behavior.spec.dataset_spec import load_spec
from tests.behavior.logs import Reading, read_log

DATA = os.environ.get("LRM_DATA")

real = pytest.mark.skipif(not DATA, reason="LRM_DATA is not set: it names the folder of the public data sets")


def write_files(folder: Path, files: dict[str, str | dict[str, pa.Array]]) -> None:
    """Text files, compressed where the name says so, and Parquet files from columns."""
    for name, content in files.items():
        if not isinstance(content, str):
            pq.write_table(pa.table(content), folder / name)
        elif name.endswith(".gz"):
            (folder / name).write_bytes(gzip.compress(content.encode()))
        else:
            (folder / name).write_text(content, encoding="utf-8", newline="")


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def read(name: str, folder: Path) -> Reading:
    """The events of a ready spec, before the filters that look at the whole log."""
    spec, base = load_spec(name, input_folder=folder)
    reading = read_log(spec, Path(base))
    assert reading.reasons == []
    return reading


def events(name: str, folder: Path, *columns: str) -> list[tuple[Any, ...]]:
    """User, item, behavior's name, and some more columns of each event, in the log's order."""
    spec, _ = load_spec(name, input_folder=folder)
    rows = read(name, folder).rows("user", "item", "behavior", *columns)
    return [(user, item, spec.behavior_names[number - 1], *rest) for user, item, number, *rest in rows]


def without_core(name: str, folder: Path) -> PreparedTables:
    """A ready spec prepared without its filters: a handful of rows has no 5-core."""
    spec, base = load_spec(name, input_folder=folder)
    return prepare_tables(spec.model_copy(update={"filters": type(spec.filters)()}), base)


def feature(data: PreparedTables, role: str, name: str) -> dict[Any, Any]:
    """Raw id -> raw value, list of values, or number of a feature; None where it is missing."""
    table = data.tables.items if role == "item" else data.tables.users
    words = data.tables.vocabularies.get(name if role == "item" else f"user.{name}")
    values = table.column(name).to_pylist()
    if words is not None:
        of = dict(zip(words.column("index").to_pylist(), words.column("value").to_pylist(), strict=True))
        values = [[of[v] for v in value] if isinstance(value, list) else of.get(value) for value in values]
    return dict(zip(table.column("id").to_pylist(), values, strict=True))


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())
