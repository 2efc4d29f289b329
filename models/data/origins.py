"""Origins: how the values of a batch's column are made of the events of sequences.

An origin is a small immutable object. It names the columns of the sequence files that it needs, and fills the
rows of one column. Two columns of equal name are the same where their origins are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from behavior.runtime.compiled import compiled
from models.data.about import About

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Samples:
    """Events that become consecutive sequences of a batch.

    Each chosen event predicts the next chosen event of its sequence. What the last event of a
    sequence predicts is named apart, since it need not be the event right after.
    """

    events: Mapping[str, npt.NDArray]
    """Columns of the sequence files by name, [events] each."""
    about: About
    starts: IntArray
    """[sequences + 1] where each sequence starts in the columns of the batch; of a repeated sample, each
    copy."""
    event: IntArray
    """[events] index of each chosen event, sequence after sequence, oldest first."""
    last_target: IntArray
    """[sequences] index of the event that the last one predicts."""
    time_known: bool
    """Whether a query knows the time of the event that it predicts."""
    loss_on_all: bool
    """Whether all events carry loss, or only those with a target behavior."""
    first_position: IntArray | None = None
    """[sequences] position of the first event of each; None: 0."""
    drawn: tuple[IntArray, BoolArray] | None = None
    """[events] index of the event that each event predicts instead, and whether it carries loss."""
    offsets: IntArray | None = None
    """[sequences of the data + 1] where these begin in the columns of the sequence files; None: not known."""
    asked: IntArray | None = None
    """[sequences] the item that the last event of each asks about in place of the one of the log, and that is
    taken for its first one; below 0: that of the log. Only `models.data.counted` and `rated` look at it."""

    def items_asked(self) -> IntArray:
        """`asked`, or that the log says all of them."""
        return np.full(len(self.starts) - 1, -1) if self.asked is None else self.asked

    @cached_property
    def first_event(self) -> IntArray:
        """[sequences] index of the first event where a sequence's events are neighbors, else -1."""
        return _first_events(self.starts, self.event)

    def copy_next(self, out: npt.NDArray, values: npt.NDArray, least: int | None = None) -> None:
        """Fill in the value of the event that each event predicts; below `least`, if given, 0."""
        if self.drawn is None:
            where = self.starts, self.event, self.first_event, self.last_target
            _copy_next(out, values, *where) if least is None else _copy_next(out, values, *where, least)
            return
        found = values[self.drawn[0]]
        out[self.starts[0] : self.starts[-1]] = found if least is None else np.where(found < least, 0, found)


class Origin(Protocol):
    """Where the values of a column come from."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns of the sequence files that the values are made of."""

    def fill(self, out: npt.NDArray, samples: Samples) -> None:
        """Fill in `out[samples.starts[0] : samples.starts[-1]]`.

        Args:
            out: [events of the batch] the whole column.
            samples: the sequences that are filled in.
        """


@dataclass(frozen=True)
class Own:
    """The value of the event itself."""

    stored: str
    """Name of a column of the sequence files."""

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.stored,)

    def fill(self, out: npt.NDArray, samples: Samples) -> None:
        values = samples.events[self.stored]
        _copy_own(out, values, samples.starts, samples.event, samples.first_event)


@dataclass(frozen=True)
class Next:
    """The value of the event to predict."""

    stored: str
    """Name of a column of the sequence files."""

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.stored,)

    def fill(self, out: npt.NDArray, samples: Samples) -> None:
        samples.copy_next(out, samples.events[self.stored])


@dataclass(frozen=True)
class Place:
    """The place of the event in its whole sequence, from 0."""

    reads: tuple[str, ...] = ("item",)

    def fill(self, out: npt.NDArray, samples: Samples) -> None:
        assert samples.offsets is not None
        event = samples.event
        sequence = np.searchsorted(samples.offsets, event, side="right") - 1
        out[samples.starts[0] : samples.starts[-1]] = event - samples.offsets[sequence]


@dataclass(frozen=True)
class QueryTimestamp:
    """The instant of the prediction, in seconds.

    The time of the event to predict when time is known (HSTU, arXiv 2402.17152), else the event's own.
    """

    reads: tuple[str, ...] = ("timestamp",)

    def fill(self, out: npt.NDArray, samples: Samples) -> None:
        origin = Next("timestamp") if samples.time_known else Own("timestamp")
        origin.fill(out, samples)


@dataclass(frozen=True)
class Position:
    """0 for the oldest event of the window, then 1, 2, ...; in a copy of a repeated sample it goes on."""

    reads: tuple[str, ...] = ()

    def fill(self, out: npt.NDArray, samples: Samples) -> None:
        first = samples.first_position
        if first is None:
            first = np.zeros(len(samples.starts) - 1, np.int64)
        _count_up(out, samples.starts, first)


@dataclass(frozen=True)
class TargetItem:
    """The item to predict; 0, no loss, where it is unknown or its behavior carries no loss.

    An unknown (OOV) item can never be ranked.
    """

    reads: tuple[str, ...] = ("item", "behavior")

    def fill(self, out: npt.NDArray, samples: Samples) -> None:
        events, about = samples.events, samples.about
        samples.copy_next(out, events["item"], about.first_item)
        begin, end = samples.starts[0], samples.starts[-1]
        if samples.drawn is not None:
            out[begin:end][~samples.drawn[1]] = 0
        elif not samples.loss_on_all:
            behavior = np.empty(len(out), events["behavior"].dtype)
            samples.copy_next(behavior, events["behavior"])
            _drop_others(out[begin:end], behavior[begin:end], about.is_target())


# Unsigned indices below: a signed one might be negative and count from the end, and a loop that has to look
# at that copies its numbers one by one.
_U = np.uint64


@compiled
def _first_events(starts: np.ndarray, event: np.ndarray) -> np.ndarray:
    first_event = np.full(len(starts) - 1, -1)
    for sequence in range(len(starts) - 1):
        begin, end = starts[sequence] - starts[0], starts[sequence + 1] - starts[0]
        if end > begin and event[end - 1] - event[begin] == end - begin - 1:
            first_event[sequence] = event[begin]
    return first_event


@compiled
def _copy_own(
    out: np.ndarray, values: np.ndarray, starts: np.ndarray, event: np.ndarray, first_event: np.ndarray
) -> None:
    for sequence in range(len(first_event)):
        begin, end = _U(starts[sequence]), _U(starts[sequence + 1])
        if first_event[sequence] >= 0:
            shift = _U(first_event[sequence]) - begin
            for token in range(begin, end):
                out[token] = values[token + shift]
        else:
            for token in range(begin, end):
                out[token] = values[event[token - _U(starts[0])]]


@compiled
def _copy_next(
    out: np.ndarray,
    values: np.ndarray,
    starts: np.ndarray,
    event: np.ndarray,
    first_event: np.ndarray,
    last_target: np.ndarray,
    least: int | None = None,
) -> None:
    """Values below `least`, where one is given, become 0."""
    for sequence in range(len(first_event)):
        begin, end = _U(starts[sequence]), _U(starts[sequence + 1])
        if begin == end:
            continue
        last = end - _U(1)
        if first_event[sequence] >= 0:
            shift = _U(first_event[sequence]) + _U(1) - begin
            for token in range(begin, last):
                out[token] = values[token + shift]
        else:
            before = _U(starts[0]) - _U(1)
            for token in range(begin, last):
                out[token] = values[event[token - before]]
        out[last] = values[last_target[sequence]]
        if least is not None:  # decided when it is compiled
            for token in range(begin, end):
                out[token] = out[token] if out[token] >= least else 0


@compiled
def _count_up(out: np.ndarray, starts: np.ndarray, first: np.ndarray) -> None:
    for sequence in range(len(starts) - 1):
        to = out[starts[sequence] : starts[sequence + 1]]
        for token in range(len(to)):
            to[token] = first[sequence] + token


@compiled
def _drop_others(target: np.ndarray, behavior: np.ndarray, carries_loss: np.ndarray) -> None:
    for token in range(len(target)):
        if not carries_loss[behavior[token]]:
            target[token] = 0
