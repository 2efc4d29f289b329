"""A question behind every history: one more event, of which time, behavior and domain alone are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from models.data.sequences import BoolArray, Int64Array, SequenceData
from models.evaluation.targets import Targets

_ASKED_ITEM = 1


@dataclass(frozen=True)
class Question:
    """What is asked after every history."""

    behavior: int
    """Id of the behavior that is wanted, for models that are told."""
    domain: int | None = None
    """Id of the domain that is wanted; None: that of each history's last event."""
    at: int | None = None
    """The time of asking, in seconds; None: that of each history's last event."""


def take_sequences(data: SequenceData, chosen: Int64Array) -> SequenceData:
    """Some of the sequences, numbered by `chosen`, in that order, with all of their events."""
    lengths = data.lengths[chosen]
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    event = np.arange(offsets[-1]) + np.repeat(data.offsets[chosen] - offsets[:-1], lengths)
    events: Mapping[str, npt.NDArray] = {name: values[event] for name, values in data.events.items()}
    return replace(
        data,
        events=events,
        offsets=offsets,
        train_end=data.train_end[chosen],
        valid_end=data.valid_end[chosen],
        row=data.row[chosen],
        excerpt=None,
    )


def ask(
    data: SequenceData, question: Question, at: Int64Array | None = None
) -> tuple[SequenceData, Targets, BoolArray]:
    """Put the question behind the last event of each whole history.

    Nobody is asked before their last event: then the time of that is taken.

    Args:
        data: whole histories, which may be empty.
        question: what is asked.
        at: [sequences] time of asking of each, in seconds, in place of the question's; -1: the question's.

    Returns:
        The histories, each with one more event; that event as the target of each; and [sequences] whether a
        history ends after the time of asking.
    """
    ends, lengths = data.offsets[1:], data.lengths
    last, there = np.maximum(ends - 1, 0), lengths > 0

    def latest(name: str) -> npt.NDArray:
        values = data.events[name]
        if not len(values):
            return np.zeros(len(lengths), values.dtype)
        return np.where(there, values[last], np.zeros((), values.dtype))

    asked = {name: latest(name) for name in data.events}
    asked["item"] = np.full(len(lengths), _ASKED_ITEM)
    asked["behavior"] = np.full(len(lengths), question.behavior)
    if question.domain is not None and "domain" in asked:
        asked["domain"] = np.full(len(lengths), question.domain)
    ended = asked["timestamp"]
    when = np.full(len(lengths), -1) if question.at is None else np.full(len(lengths), question.at)
    if at is not None:
        when = np.where(at >= 0, at, when)
    asked["timestamp"] = np.maximum(ended, when)
    events = {
        name: np.insert(values, ends, asked[name].astype(values.dtype))
        for name, values in data.events.items()
    }
    offsets = data.offsets + np.arange(len(data.offsets))
    whole = replace(data, events=events, offsets=offsets, train_end=lengths, valid_end=lengths)
    event = offsets[1:] - 1
    return whole, Targets(np.arange(len(lengths)), event, event), there & (when >= 0) & (when < ended)
