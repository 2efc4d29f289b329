"""TensorBoard event files, written by the thread that trains, so that what goes wrong is an error there."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

_PATTERN = "events.out.tfevents.*"


class EventFile:
    """A new event file, in place of those of before.

    Args:
        folder: made where missing.

    Raises:
        OSError: from all methods.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for events in folder.glob(_PATTERN):
            events.unlink()
        now = time.time()
        # TensorBoard reads a folder's files in the order of their names.
        name = _PATTERN.replace("*", f"{int(now):010d}.{socket.gethostname()}")
        self._file = (folder / name).open("wb")
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=now, file_version="brain.Event:2"))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Add numbers of a step, by their tags."""
        entries = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=entries)))

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Write what is held back, and close; the file is closed even where that fails."""
        self._file.close()

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
