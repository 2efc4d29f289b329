"""What happened in a run: one JSON object a line in metrics.jsonl, and the same for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from torch.utils.tensorboard import SummaryWriter


class Log(Protocol):
    """Where a training's records go."""

    @property
    def bytes(self) -> int:
        """Size of what was written so far."""

    def write(self, kind: str, step: int, record: dict[str, Any]) -> None:
        """See `MetricsLog.write`."""


class NoLog:
    """The log of a process that writes nothing."""

    bytes = 0

    def write(self, kind: str, step: int, record: dict[str, Any]) -> None:
        pass


NO_LOG: Log = NoLog()


class MetricsLog:
    """Appends records to `metrics.jsonl` and their numbers to a TensorBoard event file.

    Args:
        jsonl: the file, made where missing.
        tensorboard: folder of the event file, which is made anew from the records that are kept.
        keep_bytes: records after this many bytes are cut off first. A run that resumes passes the size it had
            at its checkpoint, so that no step stands there twice.
    """

    def __init__(self, jsonl: Path, tensorboard: Path, *, keep_bytes: int = 0) -> None:
        self._file = jsonl.open("ab")
        # A file shorter than expected has been edited; what is left of it stays.
        self._file.truncate(min(keep_bytes, self._file.tell()))
        self._file.seek(0, 2)
        for events in tensorboard.glob("events.out.tfevents.*"):
            events.unlink()
        self._board = SummaryWriter(str(tensorboard))
        for record in read_metrics(jsonl):
            self._plot(record)

    @property
    def bytes(self) -> int:
        """Size of the JSON lines so far, all of it handed to the operating system."""
        return self._file.tell()

    def write(self, kind: str, step: int, record: dict[str, Any]) -> None:
        """Append a record.

        Args:
            kind: `train` or `valid`: the record's `kind`, and the group of its numbers in TensorBoard.
            step: optimizer steps taken so far.
            record: plain values.
        """
        line = {"kind": kind, "step": step, **record}
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        self._plot(line)

    def close(self) -> None:
        """Write what TensorBoard still holds back, and close both."""
        self._file.close()
        self._board.close()

    def _plot(self, line: dict[str, Any]) -> None:
        for name, value in line.items():
            if name != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                self._board.add_scalar(f"{line['kind']}/{name}", value, line["step"])

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(jsonl: Path) -> list[dict[str, Any]]:
    """The records of a run, oldest first; a last line cut short by a crash is left out."""
    if not jsonl.exists():
        return []
    lines = jsonl.read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines if line]
