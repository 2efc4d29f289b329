"""The record of a run."""

from __future__ import annotations

import json
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from behavior.errors import UserError
from models.runs.metrics_log import MetricsLog, read_metrics


def write(folder: Path, *steps: int, keep_bytes: int = 0) -> int:
    with MetricsLog(folder / "metrics.jsonl", folder / "tb", keep_bytes=keep_bytes) as log:
        for step in steps:
            log.write("train", step, {"epoch": 0, "loss": step / 10})
        return log.bytes


def test_records_are_json_lines_in_order(tmp_path: Path) -> None:
    size = write(tmp_path, 1, 2)
    text = (tmp_path / "metrics.jsonl").read_text()
    assert len(text) == size
    assert [json.loads(line) for line in text.splitlines()] == [
        {"kind": "train", "step": 1, "epoch": 0, "loss": 0.1},
        {"kind": "train", "step": 2, "epoch": 0, "loss": 0.2},
    ]
    assert read_metrics(tmp_path / "metrics.jsonl")[1]["loss"] == 0.2


def test_a_resumed_run_cuts_off_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    size = write(tmp_path, 1, 2)
    write(tmp_path, 3, 4, keep_bytes=size)
    (tmp_path / "metrics.jsonl").open("a").write('{"kind": "tra')  # killed in the middle of a line
    write(tmp_path, 3, keep_bytes=size)
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3]


def test_a_new_run_begins_with_an_empty_record(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    write(tmp_path, 7)
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [7]


def test_a_record_that_is_shorter_than_expected_is_kept(tmp_path: Path) -> None:
    size = write(tmp_path, 1)
    write(tmp_path, 2, keep_bytes=size + 100)
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]


def test_a_line_cut_short_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"kind": "train", "step": 1}\n{"kind": "tr')
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"kind": "train", "step": 1}]
    assert read_metrics(tmp_path / "nothing.jsonl") == []


def test_tensorboard_has_each_step_once(tmp_path: Path) -> None:
    size = write(tmp_path, 1, 2)
    write(tmp_path, 3, 4, keep_bytes=size)
    write(tmp_path, 3, keep_bytes=size)
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """No file gets more bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("file", "record"), [("metrics.jsonl", {"text": "x" * 200}), ("tb", {"a": 0.1, "b": 0.2})]
)
def test_a_full_disk_is_an_error_of_who_writes(file: str, record: dict[str, object], tmp_path: Path) -> None:
    """No thread of its own meets it; with room again the same records are written."""
    threads = threading.active_count()
    size = write(tmp_path, 1)
    log = MetricsLog(tmp_path / "metrics.jsonl", tmp_path / "tb", keep_bytes=size)

    def until_it_is_full() -> None:
        with no_room_beyond(1500), log:
            for step in range(100):
                log.write("train", step, record)

    with pytest.raises(UserError, match="cannot write: ") as caught:
        until_it_is_full()
    assert str(caught.value.where) == str(tmp_path / file)
    assert "make room" in str(caught.value.fix)
    assert threading.active_count() == threads
    write(tmp_path, 2, keep_bytes=size)
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]
