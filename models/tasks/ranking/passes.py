"""Which rows are predicted in one pass over a history."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from models.data.sequences import Int64Array, SequenceData
from models.data.windows import Windows
from models.evaluation.actions.labels import SAMPLED
from models.evaluation.actions.rows import LabelledRows


@dataclass(frozen=True)
class Passes:
    """Windows of histories, and the rows that are asked about in each.

    In a sequence of items and actions every item is asked about its action given all before it, so that rows
    that follow each other are predicted together. Of a user with more than N events before them, rows are
    together that are less than N / 2 events apart: the last one sees its newest N events, the others
    N / 2 at least. A row whose history ends earlier, before its basket, has a pass of its own,
    and so has a sampled negative, which is in no history.
    """

    windows: Windows
    first: Int64Array  # [windows + 1] of the rows of each window
    asked: Int64Array  # [rows] event of its window after which a row comes; -1: none, it is the first item

    @classmethod
    def of(cls, data: SequenceData, rows: LabelledRows, max_length: int) -> Passes:
        """Of rows in the order of sequences and events.

        Args:
            data: the sequences.
            rows: of them.
            max_length: most events of a history, N.
        """
        sequence = np.searchsorted(data.row, rows.sequence)
        begin = data.offsets[sequence]
        event, stop = begin + rows.position, begin + rows.stop
        together = max(max_length // 2, 1)
        chained = (stop == event) & (rows.behavior != SAMPLED)
        starts = np.append(True, sequence[1:] != sequence[:-1])[: len(event)]
        origin = event[np.flatnonzero(starts)][np.cumsum(starts) - 1]
        group = (event - origin) // together
        new = starts | ~chained
        new[1:] |= (group[1:] != group[:-1]) | ~chained[:-1]
        first = np.append(np.flatnonzero(new), len(event))
        last = first[1:] - 1
        # A row without a history: the window is the row itself, whose action comes after it.
        bare = stop[last] == begin[last]
        ends = np.where(bare, event[last] + 1, stop[last])
        opens = np.where(bare, event[last], np.maximum(begin[last], stop[last] - max_length))
        windows = Windows(sequence[last], opens, ends, event[last])
        asked = np.where(stop == begin, -1, stop - 1 - np.repeat(opens, np.diff(first)))
        return cls(windows, first, asked)

    def batches(self, size: int) -> Iterator[tuple[Windows, Int64Array, torch.Tensor]]:
        """So many windows at a time.

        Returns:
            Windows; [rows] places of their rows; and [rows] int64 what the model is asked
            (`RankingModel.forward`).
        """
        for begin in range(0, len(self.windows), size):
            chosen = np.arange(begin, min(begin + size, len(self.windows)))
            windows = self.windows.take(chosen)
            place = np.arange(self.first[begin], self.first[chosen[-1] + 1])
            number = np.repeat(np.arange(len(chosen)), np.diff(self.first[begin : chosen[-1] + 2]))
            lengths = windows.lengths
            events = int(lengths.sum())
            start = np.cumsum(lengths) - lengths
            asked = self.asked[place]
            rows = np.where(asked < 0, events + number, start[number] + asked)
            yield windows, place, torch.from_numpy(rows)
