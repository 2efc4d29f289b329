"""Compiled loops of co-occurrence: pairs of events summed in whole numbers, a source item at a time."""

from __future__ import annotations

import numpy as np

from behavior.runtime.compiled import compiled

_FEW = 32
"""Numbers that are sorted by insertion."""


@compiled
def by_item(item: np.ndarray, items: int) -> tuple[np.ndarray, np.ndarray]:
    """An inverted index: where each item's events begin, and the events, in order.

    Returns:
        [items + 1] int64, and [events of known items] int64.
    """
    begin = np.zeros(items + 1, np.int64)
    for number in item:
        if number >= 0:
            begin[number + 1] += 1
    for number in range(items):
        begin[number + 1] += begin[number]
    fill = begin[:-1].copy()
    events = np.empty(begin[items], np.int64)
    for event in range(len(item)):
        if item[event] >= 0:
            events[fill[item[event]]] = event
            fill[item[event]] += 1
    return begin, events


@compiled
def mark_folds(offsets: np.ndarray, fold: np.ndarray, events: int) -> np.ndarray:
    """[events] uint16: twice the fold of each event's user, and 1 more for the first event of a history."""
    marks = np.empty(events, np.uint16)
    for user in range(len(fold)):
        for event in range(offsets[user], offsets[user + 1]):
            marks[event] = 2 * fold[user] + (event == offsets[user])
    return marks


@compiled
def add_pairs(
    source: int,
    events: np.ndarray,
    item: np.ndarray,
    behavior: np.ndarray,
    marks: np.ndarray,
    weight: np.ndarray,
    repeats: bool,
    sums: np.ndarray,
    touched: np.ndarray,
) -> int:
    """Sum the pairs of which the first item is `source`.

    Args:
        events: of the source.
        behavior: [events] ids, or empty: all are 0.
        weight: [2, behaviors + 1, behaviors + 1, window] int64: along time and against it, by the behavior of
            the source, that of the follower, and the distance.
        sums: [items, folds] int64, zero: what is summed; with several folds one more, their total.
        touched: room for the followers; they come in the order in which they are met.

    Returns:
        The number of followers.
    """
    window, known = weight.shape[3], len(behavior) > 0
    total = sums.shape[1] - 1
    met = 0
    for direction in range(2):
        if not weight[direction].any():
            continue
        for event in events:
            of_pair = weight[direction, behavior[event] if known else 0]
            fold = marks[event] >> 1
            for distance in range(1, window):
                other = event + distance if direction == 0 else event - distance
                # The later of the two neighbors tells whether a history begins between them.
                if direction == 0 and (other >= len(item) or marks[other] & 1 == 1):
                    break
                if direction == 1 and marks[other + 1] & 1 == 1:
                    break
                follower = item[other]
                if follower < 0 or (follower == source and not repeats):
                    continue
                added = of_pair[behavior[other] if known else 0, distance]
                if added > 0:
                    if sums[follower, total] == 0:
                        touched[met] = follower
                        met += 1
                    sums[follower, total] += added
                    if total > 0:
                        sums[follower, fold] += added
    return met


@compiled
def fill_rows(
    first: int,
    stop: int,
    begin: np.ndarray,
    events: np.ndarray,
    item: np.ndarray,
    behavior: np.ndarray,
    marks: np.ndarray,
    weight: np.ndarray,
    scale: np.ndarray,
    folds: int,
    most: int,
    repeats: bool,
    stochastic: bool,
    room: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows `first` to `stop` of all tables: those without each fold, and last that of everybody.

    Args:
        begin, events: as `by_item` returns them.
        scale: [items] float64: counts of a follower are multiplied by it.
        folds: with one, there is only the table of everybody.
        most: followers that are kept of a row.
        room: pairs that the rows of a table have at most.

    Returns:
        lengths [tables, stop - first] int64, followers [tables, room] int32, counts [tables, room] float32.
    """
    tables = folds + 1 if folds > 1 else 1
    lengths = np.zeros((tables, stop - first), np.int64)
    followers = np.empty((tables, room), np.int32)
    counts = np.empty((tables, room), np.float32)
    used = np.zeros(tables, np.int64)
    sums = np.zeros((len(scale), tables), np.int64)
    touched = np.empty(len(scale), np.int32)
    ordered = np.empty(len(scale), np.int32)
    values = np.empty(len(scale), np.float64)
    for source in range(first, stop):
        own = events[begin[source] : begin[source + 1]]
        met = add_pairs(source, own, item, behavior, marks, weight, repeats, sums, touched)
        row = ascending(touched[:met], ordered, len(scale))
        for table in range(tables):
            for place in range(met):
                total = sums[row[place], tables - 1]
                if table < tables - 1:
                    total -= sums[row[place], table]
                values[place] = total * scale[row[place]]
            at = used[table]
            kept = _keep(row, values[:met], most, followers[table, at:], counts[table, at:], stochastic)
            lengths[table, source - first] = kept
            used[table] += kept
        for follower in row:
            sums[follower] = 0
    return lengths, followers, counts


@compiled
def ascending(numbers: np.ndarray, room: np.ndarray, below: int) -> np.ndarray:
    """Sort different numbers from 0, in place or into `room`: by bytes where there are many of them."""
    if len(numbers) < _FEW:
        for place in range(1, len(numbers)):
            number, before = numbers[place], place - 1
            while before >= 0 and numbers[before] > number:
                numbers[before + 1] = numbers[before]
                before -= 1
            numbers[before + 1] = number
        return numbers
    source, to = numbers, room[: len(numbers)]
    shift = 0
    while below >> shift > 0:
        begin = np.zeros(257, np.int64)
        for number in source:
            begin[((number >> shift) & 255) + 1] += 1
        for digit in range(256):
            begin[digit + 1] += begin[digit]
        for number in source:
            digit = (number >> shift) & 255
            to[begin[digit]] = number
            begin[digit] += 1
        source, to = to, source
        shift += 8
    return source


@compiled
def _keep(
    row: np.ndarray,
    values: np.ndarray,
    most: int,
    followers: np.ndarray,
    counts: np.ndarray,
    stochastic: bool,
) -> int:
    """Write the `most` highest values above 0 of a row, ties by follower, in ascending order of followers."""
    least, ties = 0.0, 0
    if len(values) > most:
        least = np.partition(values, len(values) - most)[len(values) - most]
        ties = most - (values > least).sum()
    kept, total = 0, 0.0
    for place in range(len(values)):
        value = values[place]
        if value > least or (value == least and value > 0 and ties > 0):
            ties -= value == least
            followers[kept] = row[place]
            counts[kept] = value
            total += value
            kept += 1
    if stochastic:
        for place in range(kept):
            counts[place] /= total
    return kept


@compiled
def last_events(
    item: np.ndarray, begin: np.ndarray, stop: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """History, item and age, in events since, of the last events with known items: [found] int64 each."""
    history = np.empty(len(begin) * most, np.int64)
    number = np.empty(len(history), np.int64)
    age = np.empty(len(history), np.int64)
    found = 0
    for one in range(len(begin)):
        for event in range(stop[one] - 1, max(begin[one], stop[one] - most) - 1, -1):
            if item[event] >= 0:
                history[found] = one
                number[found] = item[event]
                age[found] = stop[one] - 1 - event
                found += 1
    return history[:found], number[:found], age[:found]
