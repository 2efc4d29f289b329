from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from behavior.spec.dataset_spec import SplitSpec
from behavior.steps.splits import evaluated_targets, leave_one_out, next_basket, split_offsets, temporal
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
