"""A small log with everything in it that can go right or wrong."""

from __future__ import annotations

import gzip
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pipelines.runner
from behavior.config import parse_config
from behavior.spec.dataset_spec import DatasetSpec
from tests import beam

beam.hurry()

HEADER = "user,item,behavior,time"
BEHAVIORS = ("view", "cart", "buy")


def make_rows(users: int = 40, events: int = 1500, seed: int = 0) -> list[tuple[str, str, str, int]]:
    """Rows in the order of a log, with many ties in time."""
    rng = random.Random(seed)
    return [
        (
            f"u{rng.randrange(users)}",
            f"i{rng.randrange(60)}",
            rng.choice(BEHAVIORS),
            1000 + rng.randrange(200),
        )
        for _ in range(events)
    ]


def write_rows(path: Path, rows: list[tuple[str, str, str, int]], bad: tuple[str, ...] = ()) -> None:
    """A CSV file, gzipped where its name says so; bad lines go after the tenth row."""
    lines = [",".join(map(str, row)) for row in rows]
    lines[10:10] = bad
    data = "\n".join([HEADER, *lines, ""]).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def make_spec(**changes: Any) -> DatasetSpec:
    """The spec of `make_rows` files, with changes."""
    data: dict[str, Any] = {
        "name": "small",
        "events": {
            "files": ["part-*.csv*"],
            "columns": {"user": "user", "item": "item", "timestamp": "time"},
            "behavior": {"column": "behavior"},
        },
        "timestamp_unit": "s",
        "behaviors": list(BEHAVIORS),
        "targets": ["buy"],
        "shards": 3,
    }
    return parse_config(DatasetSpec, data | changes, where="test")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder with a log in three files, two bad lines among them."""
    folder = tmp_path / "raw"
    folder.mkdir()
    rows = make_rows()
    write_rows(folder / "part-1.csv", rows[:600], bad=("u1,i1,view",))
    write_rows(folder / "part-2.csv.gz", rows[600:1100], bad=("u1,i1,view,soon",))
    write_rows(folder / "part-3.csv", rows[1100:])
    return folder


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local jobs by default in one thread: they start in half the time of those with a thread a core."""
    monkeypatch.setattr(pipelines.runner, "_cores", lambda: 1)


@pytest.fixture
def no_signal_ignored() -> Iterator[None]:
    """Signals have their usual effect, also where these tests run under nohup or in the background."""
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
