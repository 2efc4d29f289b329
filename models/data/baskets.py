"""Targets by basket: what the last event before a time stamp predicts is one of the events at it, drawn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from behavior.runtime.compiled import compiled
from behavior.runtime.splitmix import GAMMA, mix
from models.data.sequences import BoolArray, Int64Array, SequenceData

_NOTHING = -1


class Draw(NamedTuple):
    """What random numbers follow from, besides the event that asks."""

    seed: int
    epoch: int


def draw_targets(
    data: SequenceData, event: Int64Array, following: Int64Array, draw: Draw
) -> tuple[Int64Array, BoolArray]:
    """The event that each event predicts, and whether it carries loss.

    An event at another second than the event after it predicts one of all events of that second: a known item
    with a target behavior, each as likely, that belongs to the training part. Where there is none, and where
    the event after it happens in the same second, nothing carries loss.

    Args:
        data: where the events are.
        event: [events] indices into its columns.
        following: [events] the event after each, in the same sequence.
        draw: seed and epoch; an event draws the same whatever batch it is in.

    Returns:
        [events] indices, those of `following` where nothing is drawn; [events] whether something is.
    """
    sequence = np.searchsorted(data.offsets, event, side="right") - 1
    begin = data.offsets[sequence]
    carries = data.is_target() & (data.item >= data.about.first_item)
    drawn = np.empty_like(following)
    identity = (data.row[sequence].astype(np.uint64) << np.uint64(32)) + (event - begin).astype(np.uint64)
    key = np.uint64(draw.seed % 2**64), np.uint64(draw.epoch)
    ends = begin + data.train_end[sequence]
    _draw(data.timestamp, carries, begin, ends, event, following, identity, *key, drawn)
    some = drawn != _NOTHING
    return np.where(some, drawn, following), some


@compiled
def _draw(
    timestamp: npt.NDArray[np.int64],
    carries: npt.NDArray[np.bool_],
    begin: np.ndarray,
    ends: np.ndarray,
    event: np.ndarray,
    following: np.ndarray,
    identity: np.ndarray,
    seed: np.uint64,
    epoch: np.uint64,
    drawn: np.ndarray,
) -> None:
    key = mix(mix(seed + GAMMA) + epoch + GAMMA)
    for number in range(len(event)):
        drawn[number] = -1
        after = following[number]
        second = timestamp[after]
        if timestamp[event[number]] == second:
            continue
        first, stop = after, after
        while first > begin[number] and timestamp[first - 1] == second:
            first -= 1
        while stop < ends[number] and timestamp[stop] == second:
            stop += 1
        count = 0
        for place in range(first, stop):
            count += carries[place]
        if count == 0:
            continue
        word = mix(key ^ mix(identity[number] + GAMMA))
        left = int((word >> np.uint64(11)) * (1.0 / 9007199254740992.0) * count)
        for place in range(first, stop):
            if carries[place]:
                if left == 0:
                    drawn[number] = place
                    break
                left -= 1
