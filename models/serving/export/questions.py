"""Whole histories of a data set, each with the question what comes next."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.data.batch import PackedBatch
from models.data.kept import KeptEvents
from models.data.sequences import Int64Array, SequenceData
from models.data.windows import gather, history_windows
from models.tasks.config import ModelConfig


def question_batches(
    data: SequenceData, config: ModelConfig, size: int
) -> Iterator[tuple[Int64Array, PackedBatch]]:
    """The newest events of each history, packed on the host, and which sequences these are of.

    Args:
        data: of `models.serving.recommend.asked.ask`.
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
