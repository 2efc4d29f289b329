"""Compiled loops over the events before each event of a batch."""

from __future__ import annotations

import math

import numpy as np

from behavior.runtime.compiled import compiled

DECAY = 0.9
"""Weight of each event relative to the next one of its sequence in `recent`."""
NEVER = math.log1p(365 * 86400.0)
"""Logarithm of the seconds of a year: what is longer ago is never."""


@compiled
def _add(
    sums: np.ndarray,
    at: np.ndarray,
    begin: int,
    end: int,
    item: np.ndarray,
    weight: np.ndarray,
    time: np.ndarray,
    values: np.ndarray,
    offsets: np.ndarray,
    kind: int,
) -> None:
    """Events `begin` to `end`. `at` is a value's latest event (`recent`), or its time (`since`)."""
    for place in range(begin, end):
        for value in values[offsets[item[place]] : offsets[item[place] + 1]]:
            if kind == 0:
                sums[value] += weight[place]
            elif kind == 1:
                if sums[value] > 0:
                    sums[value] *= DECAY ** (place - at[value])
                sums[value] += weight[place]
                at[value] = place
            elif weight[place] > 0:
                sums[value] = 1.0
                at[value] = time[place]


@compiled
def _clear(
    sums: np.ndarray, begin: int, end: int, item: np.ndarray, values: np.ndarray, offsets: np.ndarray
) -> None:
    for place in range(begin, end):
        for value in values[offsets[item[place]] : offsets[item[place] + 1]]:
            sums[value] = 0.0


@compiled
def _mean(
    sums: np.ndarray,
    at: np.ndarray,
    item: int,
    values: np.ndarray,
    offsets: np.ndarray,
    now: int,
    kind: int,
) -> float:
    """`now` is the newest event (`recent`), or the time of the question (`since`)."""
    begin, end = offsets[item], offsets[item + 1]
    total = 0.0
    for value in values[begin:end]:
        if kind == 0:
            total += sums[value]
        elif sums[value] == 0:
            continue
        elif kind == 1:
            total += sums[value] * DECAY ** (now - at[value])
        else:
            total += max(0.0, NEVER - math.log1p(max(now - at[value], 0)))
    return total / max(end - begin, 1)


@compiled
def count(
    out: np.ndarray,
    item: np.ndarray,
    weight: np.ndarray,
    time: np.ndarray,
    starts: np.ndarray,
    event: np.ndarray,
    last_target: np.ndarray,
    bounds: np.ndarray,
    values: np.ndarray,
    offsets: np.ndarray,
    state: np.ndarray,
    asked: np.ndarray,
    how: tuple[int, bool, bool],
) -> None:
    """Fill in a column; see `models.data.counted.Counted` and `models.data.origins.Samples`.

    Args:
        out: [events of the batch] the column.
        item: [events of the data] ids.
        weight: [events] how much each counts.
        time: [events] seconds; looked at for `since` alone.
        starts: [samples + 1] where samples begin in the column.
        event: [events of the samples] which of the data they are.
        last_target: [samples] event that the last one of each predicts.
        bounds: [sequences of the data + 1] where these begin.
        values: of items: those of item i are `offsets[i]` to `offsets[i + 1]`.
        offsets: see there.
        state: [2, values] float64: sums, zero before and afterwards; and events or times.
        asked: [samples] item of the last question, or of the first event; below 0: that of the log.
        how: 0 count, 1 recent, 2 since; whether the first event of each sample is told of, and no other;
            whether a question knows when it is asked.
    """
    sums, at = state[0], state[1]
    kind, of_first, time_known = how
    # What a sample has counted is kept for the next one, where that goes on in the same sequence.
    known, opened, done = -1, 0, 0
    for sequence in range(len(starts) - 1):
        begin, end = starts[sequence], starts[sequence + 1]
        if begin == end:
            continue
        first = event[begin - starts[0]]
        same = known >= 0 and bounds[known] <= first and first < bounds[known + 1]
        if not same or first + (0 if of_first else 1) < done:
            _clear(sums, opened, done, item, values, offsets)
            known = np.searchsorted(bounds, first, side="right") - 1
            opened = bounds[known]
            done = opened
        for token in range(begin, end):
            if of_first and token > begin:
                out[token] = 0.0
                continue
            place = token - starts[0]
            stop = event[place] + (0 if of_first else 1)
            _add(sums, at, done, stop, item, weight, time, values, offsets, kind)
            done = max(done, stop)
            target = event[place + 1] if token + 1 < end else last_target[sequence]
            if of_first:
                target = first
            if kind == 2:
                now = time[target] if time_known or stop == opened else time[stop - 1]
            else:
                now = stop - 1
            wanted = item[target]
            if (of_first or token + 1 == end) and asked[sequence] >= 0:
                wanted = asked[sequence]
            out[token] = _mean(sums, at, wanted, values, offsets, now, kind)
    _clear(sums, opened, done, item, values, offsets)
