"""Which events of sequences are targets of a split, by the rules of the data set."""

from __future__ import annotations

from typing import Literal

import numpy as np

from models.data.sequences import Int64Array, SequenceData

Split = Literal["valid", "test"]
"""Which part of every sequence is evaluated; how sequences are split is part of the data set."""


def part_of_split(data: SequenceData, split: Split) -> tuple[Int64Array, Int64Array]:
    """[sequences] where the part of a split begins and ends, from each sequence's start."""
    return (data.train_end, data.valid_end) if split == "valid" else (data.valid_end, data.lengths)


def judged_events(data: SequenceData, split: Split) -> tuple[Int64Array, Int64Array]:
    """The target-behavior events of every sequence's part of a split: the first, or all of them.

    Where one behavior is evaluated whatever the targets are (`About.judged`), its events: all, the first, or
    under leave-one-out the last; of baskets those in the basket with which the part begins.

    Returns:
        Numbers of sequences within the data, and indices of events, both [targets].
    """
    cut, end = part_of_split(data, split)
    pieces = np.stack([cut, end - cut, data.lengths - end], axis=1).ravel()
    in_part = np.repeat(np.tile([False, True, False], data.num_sequences), pieces)  # [events]
    about = data.about
    chosen = about.judged is None and data.excerpt is not None  # chosen already, before it was an excerpt
    event = np.flatnonzero(in_part & (data.excerpt.judged if data.excerpt and chosen else data.is_judged()))
    sequence = np.searchsorted(data.offsets, event, side="right") - 1
    if about.judged is not None and about.in_baskets:
        basket = data.timestamp[event] == data.timestamp[(data.offsets[:-1] + cut)[sequence]]
        sequence, event = sequence[basket], event[basket]
    if chosen or about.evaluated == "all":
        return sequence, event
    if about.judged is not None and about.leaves_one_out:
        ends = np.diff(sequence, append=-1) != 0
    else:
        ends = np.diff(sequence, prepend=-1) != 0
    return sequence[ends], event[ends]
