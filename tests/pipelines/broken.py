"""Logs with something wrong in them, and what must come out nevertheless."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior.spec.dataset_spec import DatasetSpec
from pipelines.runner import RunnerOptions
from tests.pipelines.by_hand import Event, by_hand, rounded
from tests.pipelines.content import content
from tests.pipelines.shapes import COLUMNS, make_log, spec_of, write_log

ONE = RunnerOptions(workers=1)


def rejected(out: Path) -> list[dict[str, Any]]:
    """All rejects of a data set, file by file."""
    parts = sorted((out / "rejected").glob("part-*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def check_log(out: Path, spec: DatasetSpec, log: list[Event], bad: int) -> None:
    """The data set holds the events of a log, and counts so many rejects beside them."""
    expected, found = by_hand(spec, log), rounded(content(out))
    assert found["sequences"] == rounded(expected["sequences"])
    counts = expected["counts"]
    assert found["counts"] == {**counts, "read": counts["read"] + bad, "rejected": bad}


def save(spec: DatasetSpec, path: Path) -> Path:
    path.write_text(spec.model_dump_json())  # JSON is YAML
    return path


def source_of(files: str) -> dict[str, Any]:
    return {"files": files, "columns": COLUMNS, "behavior": {"column": "behavior"}}


def write_parquet(path: Path, log: list[Event], row_group_size: int = 25) -> None:
    names = ["user", "item", "behavior", "timestamp"]
    table = pa.Table.from_pylist([{name: event[name] for name in names} for event in log])
    pq.write_table(table, path, row_group_size=row_group_size, compression="zstd", use_dictionary=False)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A folder with a log, more events to be added, and `spec.yaml`."""
    folder = tmp_path / "logs"
    folder.mkdir()
    log = make_log(26, 400)
    write_log(folder / "log.csv", log[:300])
    write_log(folder / "new.csv", log[300:])
    save(spec_of(), folder / "spec.yaml")
    return folder
