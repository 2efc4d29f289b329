"""Whole histories of a data set, each with the question what comes next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from models.data.batch import PackedBatch
from models.data.kept import KeptEvents
from models.data.sequences import Int64Array, SequenceData
from models.data.windows import gather, history_windows
from models.tasks.config import ModelConfig


def with_question(data: SequenceData, behavior: int, at: int | None = None) -> SequenceData:
    """The sequences, each with one more event: the one that is asked for.

    Args:
        data: sequences; those without events stay so, but for the question.
        behavior: id of the behavior that is wanted.
        at: when, in seconds since 1970; None: at the time of the last event.

    Returns:
        The question has the unknown item 1, and what else it has is as of the last event.
    """
    ends, there = data.offsets[1:], data.lengths > 0

    def asked(name: str, values: npt.NDArray) -> npt.NDArray:
        if name == "item":
            return np.insert(values, ends, 1)
        if name == "behavior":
            return np.insert(values, ends, behavior)
        if name == "timestamp" and at is not None:
            return np.insert(values, ends, at)
        last = np.zeros(len(ends), values.dtype)
        last[there] = values[ends[there] - 1]
        return np.insert(values, ends, last)

    events = {name: asked(name, values) for name, values in data.events.items()}
    return replace(data, events=events, offsets=data.offsets + np.arange(len(data.offsets)), excerpt=None)


def question_batches(
    data: SequenceData, config: ModelConfig, size: int
) -> Iterator[tuple[Int64Array, PackedBatch]]:
    """The newest events of each history, packed on the host, and which sequences these are of.

    Args:
        data: of `with_question`.
        config: of the model: how many events it sees, and of which behaviors.
        size: sequences of a batch, at most.
    """
    kept = KeptEvents(config.input_behaviors).of(data)
    number, target = np.arange(data.num_sequences), data.offsets[1:] - 1
    windows = history_windows(data, number, target, target, config.max_length, kept)
    rows = np.flatnonzero(windows.lengths > 0)
    for first in range(0, len(rows), size):
        some = rows[first : first + size]
        yield some, gather(data, windows.take(some), time=config.time)
