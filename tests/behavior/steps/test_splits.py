from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.spec.dataset_spec import SplitSpec
from behavior.steps.splits import (
    evaluated_targets,
    leave_one_out,
    next_basket,
    random_split,
    split_offsets,
    temporal,
)
from tests.behavior.logs import make_spec, many

users = st.lists(st.lists(st.integers(1, 3), max_size=8), max_size=5)
timed_users = st.lists(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 3)), max_size=9), max_size=5)


def offsets_of(sequences: list[list[int]]) -> np.ndarray:
    return np.cumsum([0, *(len(sequence) for sequence in sequences)])


def flat(sequences: list[list[int]], dtype: type = np.int64) -> np.ndarray:
    return np.array([value for sequence in sequences for value in sequence], dtype)


def by_hand(behaviors: list[int], targets: list[int]) -> tuple[int, int]:
    places = [place for place, behavior in enumerate(behaviors) if behavior in targets]
    if len(behaviors) < 3 or len(places) < 2:
        return len(behaviors), len(behaviors)
    return places[-2], places[-1]


def test_the_last_two_targets_are_validation_and_test() -> None:
    cases = {
        (1, 1, 1): (1, 2),
        (1, 1): (2, 2),  # fewer than three events only train
        (2, 1, 2, 1, 2): (1, 3),  # what comes after the test target is not used
        (1, 2, 2, 2): (4, 4),  # fewer than two targets only train
        (2, 2, 2): (3, 3),
        (): (0, 0),
    }
    sequences = [list(case) for case in cases]
    train_end, valid_end = leave_one_out(
        offsets_of(sequences), flat(sequences, np.int8), np.array([1], np.int8)
    )
    assert list(zip(train_end.tolist(), valid_end.tolist(), strict=True)) == list(cases.values())
    assert train_end.dtype == valid_end.dtype == np.int32


@many
@given(users, st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True))
def test_leave_one_out_against_plain_python(sequences: list[list[int]], targets: list[int]) -> None:
    got = leave_one_out(offsets_of(sequences), flat(sequences, np.int8), np.array(targets, np.int8))
    assert list(zip(*(ends.tolist() for ends in got), strict=True)) == [
        by_hand(s, targets) for s in sequences
    ]


def test_behavior_127_is_a_behavior() -> None:
    sequences = [[127, 126, 127, 126, 127]]
    got = leave_one_out(offsets_of(sequences), flat(sequences, np.int8), np.array([127], np.int8))
    assert [ends.tolist() for ends in got] == [[2], [4]]


def baskets_by_hand(times: list[int], behaviors: list[int], targets: list[int]) -> tuple[int, int]:
    stamps = sorted({time for time, behavior in zip(times, behaviors, strict=True) if behavior in targets})
    if len(times) < 3 or len(stamps) < 2:
        return len(times), len(times)
    return times.index(stamps[-2]), times.index(stamps[-1])


def test_the_last_two_baskets_are_validation_and_test() -> None:
    # Time stamp, behavior; 1 is the target.
    cases: dict[tuple[tuple[int, int], ...], tuple[int, int]] = {
        ((5, 1), (6, 1), (6, 1), (8, 1), (8, 1)): (1, 3),
        ((5, 1), (6, 2), (6, 1), (6, 2), (8, 2), (8, 1)): (1, 4),  # a basket begins with whatever is in it
        ((5, 1), (6, 1), (7, 2), (8, 1), (9, 2)): (
            1,
            3,
        ),  # baskets without a target are no baskets to predict
        ((5, 1), (5, 1), (6, 1)): (0, 2),
        ((5, 1), (5, 1), (5, 1)): (3, 3),  # one basket only trains
        ((5, 1), (6, 2), (6, 2)): (3, 3),
        ((5, 1), (6, 1)): (2, 2),  # so do fewer than three events
        (): (0, 0),
    }
    times = [[time for time, _ in case] for case in cases]
    behaviors = [[behavior for _, behavior in case] for case in cases]
    train_end, valid_end = next_basket(
        offsets_of(times), flat(behaviors, np.int8), flat(times), np.array([1], np.int8)
    )
    assert list(zip(train_end.tolist(), valid_end.tolist(), strict=True)) == list(cases.values())
    assert train_end.dtype == valid_end.dtype == np.int32


@many
@given(timed_users, st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True))
def test_next_basket_against_plain_python(sequences: list[list[tuple[int, int]]], targets: list[int]) -> None:
    sequences = [sorted(sequence, key=lambda event: event[0]) for sequence in sequences]
    times = [[time for time, _ in sequence] for sequence in sequences]
    behaviors = [[behavior for _, behavior in sequence] for sequence in sequences]
    got = next_basket(offsets_of(times), flat(behaviors, np.int8), flat(times), np.array(targets, np.int8))
    cuts = list(zip(*(ends.tolist() for ends in got), strict=True))
    expected = zip(times, behaviors, strict=True)
    assert cuts == [baskets_by_hand(time, behavior, targets) for time, behavior in expected]
    for sequence, (train_end, valid_end) in zip(sequences, cuts, strict=True):
        for part in (sequence[train_end:valid_end], sequence[valid_end:]):
            assert {time for time, behavior in part if behavior in targets} <= {time for time, _ in part[:1]}


@many
@given(users, st.integers(0, 4), st.integers(0, 4))
def test_temporal_against_plain_python(sequences: list[list[int]], valid_at: int, later: int) -> None:
    sequences, test_at = [sorted(sequence) for sequence in sequences], valid_at + later
    train_end, valid_end = temporal(offsets_of(sequences), flat(sequences), valid_at, test_at)
    for sequence, train, valid in zip(sequences, train_end, valid_end, strict=True):
        assert sequence[:train] == [time for time in sequence if time < valid_at]
        assert sequence[train:valid] == [time for time in sequence if valid_at <= time < test_at]
        assert sequence[valid:] == [time for time in sequence if time >= test_at]


def test_the_spec_chooses_the_split() -> None:
    offsets, behaviors, times = np.array([0, 4]), np.array([1, 2, 1, 2], np.int8), np.array([10, 20, 30, 40])
    spec = make_spec({"behavior": {"column": "b"}}, behaviors=["see", "buy"], targets=["see"])
    assert [ends.tolist() for ends in split_offsets(offsets, behaviors, times, spec)] == [[0], [2]]
    spec = make_spec(split={"kind": "temporal", "valid_at": 20, "test_at": "1970-01-01T00:00:35"})
    assert [ends.tolist() for ends in split_offsets(offsets, behaviors, times, spec)] == [[1], [3]]
    spec = make_spec(
        {"behavior": {"column": "b"}},
        behaviors=["see", "buy"],
        targets=["see"],
        split={"kind": "next_basket"},
    )
    times = np.array([10, 20, 30, 30])
    assert [ends.tolist() for ends in split_offsets(offsets, behaviors, times, spec)] == [[0], [2]]


def test_a_manifest_tells_which_targets_are_evaluated() -> None:
    instants = {"valid_at": 1, "test_at": 2}
    for split, expected in [
        (SplitSpec(), "first"),
        (SplitSpec(targets="first"), "first"),
        (SplitSpec(kind="next_basket"), "all"),
        (SplitSpec(kind="next_basket", targets="first"), "first"),
        (SplitSpec(kind="temporal", **instants), "first"),
        (SplitSpec(kind="temporal", targets="all", **instants), "all"),
    ]:
        assert evaluated_targets(split.model_dump(exclude_none=True)) == expected == split.evaluated


def number_by_hand(user: int, place: int, seed: int) -> float:
    """SplitMix64 as it was published, in whole numbers."""
    mask = (1 << 64) - 1
    state = user ^ (seed * 0xD1B54A32D192ED03 & mask)
    mixed = (state + (place + 1) * 0x9E3779B97F4A7C15) & mask
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & mask
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & mask
    return ((mixed ^ mixed >> 31) >> 11) / 2**53


@many
@given(
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 9)), max_size=5),
    st.integers(0, 10**9),
    st.sampled_from([(0.1, 0.1), (0.0, 0.5), (0.4, 0.3), (0.2, 0.0)]),
)
def test_random_split_against_plain_python(
    users: list[tuple[int, int]], seed: int, shares: tuple[float, float]
) -> None:
    offsets = np.cumsum([0, *(events for _, events in users)])
    hashes = np.array([user for user, _ in users], np.uint64)
    order, train_end, valid_end = random_split(offsets, hashes, seed, *shares)
    for number, (user, events) in enumerate(users):
        drawn = [number_by_hand(user, place, seed) for place in range(events)]
        expected = sorted(range(events), key=lambda place: drawn[place])
        assert (order[offsets[number] : offsets[number + 1]] - offsets[number]).tolist() == expected
        assert train_end[number] == sum(each < 1 - sum(shares) for each in drawn)
        assert valid_end[number] == sum(each < 1 - shares[1] for each in drawn)


def test_shares_are_met_and_seeds_differ() -> None:
    offsets, users = np.arange(0, 40_001, 20), np.arange(2000).astype(np.uint64)
    order, train_end, valid_end = random_split(offsets, users, 0, 0.1, 0.2)
    assert abs(train_end.sum() / 40_000 - 0.7) < 0.01
    assert abs(valid_end.sum() / 40_000 - 0.8) < 0.01
    other, _, _ = random_split(offsets, users, 1, 0.1, 0.2)
    assert (order != other).mean() > 0.9
    first = order[offsets[:-1]] - offsets[:-1]
    assert np.bincount(first, minlength=20).min() > 60  # of 100 expected


def test_what_a_random_split_takes() -> None:
    assert SplitSpec(kind="random").shares == (0.1, 0.1)
    assert SplitSpec(kind="random").evaluated == "all"
    for wrong, message in (
        ({"kind": "random", "test_share": 0.95}, "nothing to train on"),
        ({"kind": "random", "targets": "first"}, "evaluates all"),
        ({"kind": "leave_one_out", "seed": 3}, "for kind: random"),
        ({"kind": "next_basket", "valid_share": 0.1}, "for kind: random"),
    ):
        with pytest.raises(ValueError, match=message):
            SplitSpec.model_validate(wrong)
