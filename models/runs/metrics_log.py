"""What happened in a run: one JSON object a line in metrics.jsonl, and the same for TensorBoard."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from behavior.errors import UserError
from models.runs.files import read_file, told
from models.runs.records import MetricsLine, check_record, damaged, parse_json
from models.runs.tensorboard import EventFile

_RECORD = "the record of the run"
_FIX = "bring the file back from a copy, or remove it: training goes on without its records"


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

    Raises:
        UserError: a file cannot be written, or a record that is kept is damaged.
    """

    def __init__(self, jsonl: Path, tensorboard: Path, *, keep_bytes: int = 0) -> None:
        self.jsonl, self.tensorboard = jsonl, tensorboard
        kept = read_metrics(jsonl, keep_bytes)
        with told(jsonl, "cannot write"):
            self._file = jsonl.open("ab")
            # A file shorter than expected has been edited; what is left of it stays.
            self._file.truncate(min(keep_bytes, self._file.tell()))
            self._file.seek(0, 2)
        with told(tensorboard, "cannot write"):
            self._board = EventFile(tensorboard)
            for record in kept:
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

        Raises:
            UserError: it cannot be written: the disk is full, say.
        """
        line = {"kind": kind, "step": step, **record}
        with told(self.jsonl, "cannot write"):
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
        with told(self.tensorboard, "cannot write"):
            self._plot(line)
            self._board.flush()

    def close(self) -> None:
        """Write what is held back, and close both files.

        Raises:
            UserError: it cannot be written.
        """
        try:
            with told(self.jsonl, "cannot write"):
                self._file.close()
        finally:
            with told(self.tensorboard, "cannot write"):
                self._board.close()

    def _plot(self, line: dict[str, Any]) -> None:
        values = {
            f"{line['kind']}/{name}": float(value)
            for name, value in line.items()
            if name != "step" and isinstance(value, int | float) and not isinstance(value, bool)
        }
        self._board.scalars(line["step"], values)

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        with suppress(UserError):  # what went wrong is on its way, and closing may fail of the same
            self.close()


def read_metrics(jsonl: Path, size: int | None = None) -> list[dict[str, Any]]:
    """The records of a run, oldest first; a last line cut short by a crash is left out.

    Args:
        jsonl: the file; where it is missing there are no records.
        size: only what lies in its first so many bytes is read.

    Raises:
        UserError: a line is no record; says which. Or the file cannot be read.
    """
    content = read_file(jsonl)
    if content is None:
        return []
    *lines, rest = content[:size].split(b"\n")
    found = [_record(line, f"{jsonl}, line {number}") for number, line in enumerate(lines, 1) if line]
    if rest and size is not None and len(content) >= size:
        where = f"{jsonl}, line {len(lines) + 1}"
        raise damaged(_RECORD, "a line is longer than at the last checkpoint", where=where, fix=_FIX)
    return found


def _record(line: bytes, where: str) -> dict[str, Any]:
    found = parse_json(line, _RECORD, where=where, fix=_FIX)
    check_record(MetricsLine, found, _RECORD, where=where, fix=_FIX)
    return dict(found)
