"""Splits as offsets: two integers a sequence say what is trained on, validated and tested.

Train on events `[:train_end]`, validate on targets in `[train_end:valid_end]`, test on those in
`[valid_end:]`, each given everything before it, or before its basket. A sequence that only trains has both
at its length.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from behavior.runtime.compiled import compiled
from behavior.runtime.splitmix import GAMMA, mix
from behavior.spec.dataset_spec import DatasetSpec, SplitSpec

Evaluated = Literal["first", "all"]

MIN_EVENTS = 3
"""Sequences with fewer events only train under leave-one-out and next-basket."""


def evaluated_targets(split: dict[str, Any]) -> Evaluated:
    """Which target events of a part are evaluated: the first or all.

    Args:
        split: as it stands in a manifest: the spec's, without what was left to the default.
    """
    return "all" if SplitSpec.model_construct(**split).evaluated == "all" else "first"


def split_offsets(
    offsets: np.ndarray, behaviors: np.ndarray, times: np.ndarray | None, spec: DatasetSpec
) -> tuple[np.ndarray, np.ndarray]:
    """`train_end` and `valid_end` of every sequence, by the split of the spec.

    Args:
        offsets: where sequences begin. [users + 1] int64
        behaviors: behavior ids. [events] int8
        times: timestamps, for a next-basket or temporal split. [events] int64
        spec: for the split and the target behaviors.

    Returns:
        Two arrays [users] int32, relative to each sequence's begin.
    """
    if spec.split.kind == "temporal":
        assert times is not None
        return temporal(offsets, times, *spec.split.instants(spec.stored_unit))
    targets = np.array(spec.target_ids, np.int8)
    if spec.split.kind == "next_basket":
        assert times is not None
        return next_basket(offsets, behaviors, times, targets)
    return leave_one_out(offsets, behaviors, targets)


def _is_target(targets: np.ndarray) -> np.ndarray:
    """Whether a behavior is a target, by its id. [256] bool"""
    table = np.zeros(256, np.bool_)
    table[targets] = True
    return table


def _only_training(offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cuts after the last event: what holds for sequences that only train. [users] int32, twice"""
    lengths = np.diff(offsets).astype(np.int32)
    return lengths, lengths.copy()


def leave_one_out(
    offsets: np.ndarray, behaviors: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The last target event is test, the target event before it validation.

    Sequences with fewer than 3 events or fewer than 2 target events only train.

    Args:
        offsets: [users + 1] int64
        behaviors: [events] int8
        targets: ids of the target behaviors. int8

    Returns:
        train_end (index of the validation target) and valid_end (of the test target). [users] int32
    """
    train_end, valid_end = _only_training(offsets)
    _leave_one_out(offsets, behaviors, _is_target(targets), train_end, valid_end)
    return train_end, valid_end


@compiled
def _leave_one_out(
    offsets: np.ndarray,
    behaviors: np.ndarray,
    is_target: np.ndarray,
    train_end: np.ndarray,
    valid_end: np.ndarray,
) -> None:
    for user in range(len(train_end)):
        begin, end = offsets[user], offsets[user + 1]
        if end - begin < MIN_EVENTS:
            continue
        last = end
        found = 0
        for event in range(end - 1, begin - 1, -1):
            if is_target[behaviors[event]]:
                found += 1
                if found == 1:
                    last = event
                else:
                    valid_end[user] = last - begin
                    train_end[user] = event - begin
                    break


def next_basket(
    offsets: np.ndarray, behaviors: np.ndarray, times: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The last basket with a target event is test, the one before it validation.

    A basket is all events of a user with one timestamp, whatever their behaviors; a cut is the basket's
    first event. So all target events of a part stand in its first basket: the baskets after it have none, and
    are no targets. Sequences with fewer than 3 events or fewer than 2 baskets with a target only train.

    Args:
        offsets: [users + 1] int64
        behaviors: [events] int8
        times: sorted within each sequence, in any unit. [events] int64
        targets: ids of the target behaviors. int8

    Returns:
        train_end (index of the validation basket) and valid_end (of the test basket). [users] int32
    """
    train_end, valid_end = _only_training(offsets)
    _next_basket(offsets, behaviors, times, _is_target(targets), train_end, valid_end)
    return train_end, valid_end


@compiled
def _next_basket(
    offsets: np.ndarray,
    behaviors: np.ndarray,
    times: np.ndarray,
    is_target: np.ndarray,
    train_end: np.ndarray,
    valid_end: np.ndarray,
) -> None:
    for user in range(len(train_end)):
        begin, end = offsets[user], offsets[user + 1]
        if end - begin < MIN_EVENTS:
            continue
        last = end
        found = 0
        stop = end
        while stop > begin and found < 2:
            start = stop
            holds_target = False
            while start > begin and times[start - 1] == times[stop - 1]:
                start -= 1
                holds_target |= is_target[behaviors[start]]
            stop = start
            if holds_target:
                found += 1
                if found == 1:
                    last = start
                else:
                    valid_end[user] = last - begin
                    train_end[user] = start - begin


def temporal(
    offsets: np.ndarray, times: np.ndarray, valid_at: int, test_at: int
) -> tuple[np.ndarray, np.ndarray]:
    """Two instants cut every user: events before `valid_at` train, those from `test_at` on test.

    Args:
        offsets: [users + 1] int64
        times: sorted within each sequence. [events] int64
        valid_at, test_at: in the unit of `times`.

    Returns:
        train_end, valid_end. [users] int32
    """
    num_users = len(offsets) - 1
    train_end = np.empty(num_users, np.int32)
    valid_end = np.empty(num_users, np.int32)
    _first_not_before(offsets, times, valid_at, train_end)
    _first_not_before(offsets, times, test_at, valid_end)
    return train_end, valid_end


@compiled
def _first_not_before(offsets: np.ndarray, times: np.ndarray, instant: int, found: np.ndarray) -> None:
    for user in range(len(found)):
        low, high = offsets[user], offsets[user + 1]
        while low < high:
            middle = (low + high) // 2
            if times[middle] < instant:
                low = middle + 1
            else:
                high = middle
        found[user] = low - offsets[user]


@compiled
def random_split(
    offsets: np.ndarray, users: np.ndarray, seed: int, valid_share: float, test_share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each event into a part by a number of its own, whatever the others do; events by their numbers.

    The number of a user's n-th event is the hash of the user, advanced n times (SplitMix64; Steele, Lea and
    Flood, 2014), taken as a number from 0 to 1. Those below `1 - valid_share - test_share` train, those from
    `1 - test_share` on test.

    Args:
        offsets: [users + 1] int64
        users: hash of each user's id. [users] uint64
        seed: which of many splits.
        valid_share, test_share: expected shares of the events.

    Returns:
        The order of events, by their numbers within each sequence [events] int64; train_end, valid_end.
        [users] int32
    """
    order = np.empty(offsets[-1], np.int64)
    train_end = np.zeros(len(users), np.int32)
    valid_end = np.zeros(len(users), np.int32)
    for user in range(len(users)):
        begin, end = offsets[user], offsets[user + 1]
        numbers = np.empty(end - begin, np.float64)
        state = users[user] ^ (np.uint64(seed) * np.uint64(0xD1B54A32D192ED03))
        for event in range(end - begin):
            state += GAMMA
            numbers[event] = (mix(state) >> np.uint64(11)) * (1.0 / (1 << 53))
            train_end[user] += numbers[event] < 1.0 - valid_share - test_share
            valid_end[user] += numbers[event] < 1.0 - test_share
        order[begin:end] = begin + np.argsort(numbers, kind="mergesort")
    return order, train_end, valid_end
