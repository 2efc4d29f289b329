from __future__ import annotations

from itertools import accumulate

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.packing.pack import Cost, Packs, pack_in_order, pack_lengths, pack_sequences
from tests.behavior.logs import many

COSTS = st.sampled_from([Cost(), Cost(2, 1), Cost(0.3, 0.07)])


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[list[int]], float, Cost]:
    """Sequences whose events are numbered through, a budget that one event fits into, and a cost."""
    lengths = draw(st.lists(st.integers(0, 30), max_size=15))
    ends = list(accumulate(lengths))
    events = [list(range(end - length, end)) for length, end in zip(lengths, ends, strict=True)]
    return events, draw(st.integers(4, 60)), draw(COSTS)


def pieces(packs: Packs, events: list[list[int]]) -> list[list[list[int]]]:
    """The events of each piece of each pack."""
    every = [
        events[sequence][start:stop]
        for sequence, start, stop in zip(packs.sequence, packs.start, packs.stop, strict=True)
    ]
    return [every[a:b] for a, b in zip(packs.offsets, packs.offsets[1:], strict=False)]


@many
@given(problems(), st.booleans())
def test_every_event_is_in_one_piece(problem: tuple[list[list[int]], float, Cost], in_order: bool) -> None:
    events, budget, cost = problem
    packs = pack_sequences(
        pa.array(events, pa.list_(pa.int64())), budget, cost, in_order=in_order, too_long="window"
    )
    cut = pieces(packs, events)
    found = [event for pack in cut for piece in pack for event in piece]
    assert sorted(found) == list(range(len(found))) == [event for own in events for event in own]
    assert sorted(set(packs.sequence.tolist())) == list(range(len(events)))
    assert (packs.costs <= budget).all()
    assert packs.tokens.tolist() == [sum(map(len, pack)) for pack in cut]
    assert all(cut)
    if in_order:
        assert found == sorted(found)
    # A sequence is cut only where it must be, and then its newest piece is as long as can be.
    longest = cost.longest(budget)
    for number, own in enumerate(events):
        lengths = packs.lengths[packs.sequence == number]
        assert len(lengths) == max(1, -(-len(own) // longest))
        newest = packs.lengths[(packs.sequence == number) & (packs.stop == len(own))]
        assert newest.tolist() == [min(len(own), longest)]


@many
@given(problems(), st.booleans(), st.booleans())
def test_applied_to_lists(problem: tuple[list[list[int]], float, Cost], in_order: bool, large: bool) -> None:
    events, budget, cost = problem
    kind = pa.large_list if large else pa.list_
    lists = pa.array([[-1], *events, [-2]], kind(pa.int64())).slice(1, len(events))
    packs = pack_sequences(lists, budget, cost, in_order=in_order, too_long="window")
    table = packs.apply(lists)
    cut = pieces(packs, events)
    assert table.column("tokens").type == kind(pa.int64())
    assert table.column("tokens").to_pylist() == [
        [event for piece in pack for event in piece] for pack in cut
    ]
    assert table.column("length").to_pylist() == [[len(piece) for piece in pack] for pack in cut]
    assert len(table) == len(packs)
    halves = pa.chunked_array([lists[: len(events) // 2], lists[len(events) // 2 :]], kind(pa.int64()))
    assert packs.apply(halves).equals(table)


def test_whole_sequences_are_packed_as_by_number() -> None:
    lengths = np.random.default_rng(0).integers(0, 50, 500)
    for in_order, numbers in ((False, pack_lengths(lengths, 100)), (True, pack_in_order(lengths, 100))):
        packs = pack_sequences(lengths, 100, in_order=in_order)
        np.testing.assert_array_equal(packs.numbers, numbers[packs.sequence])
        for number in range(len(packs)):
            own = packs.sequence[packs.offsets[number] : packs.offsets[number + 1]]
            assert (np.diff(own) > 0).all()
        assert packs.fill == pytest.approx(lengths.sum() / (100 * len(packs)))


def test_a_known_cut() -> None:
    lists = pa.array([[1, 2], [3, 4, 5, 6, 7], [8]])
    table = pack_sequences(lists, 3, too_long="window").apply(lists)
    assert table.to_pydict() == {
        "sequence": [[1], [0, 2], [1]],
        "start": [[2], [0, 0], [0]],
        "length": [[3], [2, 1], [2]],
        "tokens": [[5, 6, 7], [1, 2, 8], [3, 4]],
    }


def test_values_in_order_are_not_copied() -> None:
    lists = pa.array([[0], [1, 2], [3, 4, 5], [6]]).slice(1)
    values = pack_sequences(lists, 4, in_order=True).apply(lists).column("tokens").chunk(0).values
    assert values.to_pylist() == [1, 2, 3, 4, 5, 6]
    assert values.buffers()[1].address == lists.values.buffers()[1].address


def test_lists_of_anything_and_tables() -> None:
    table = pa.table(
        {
            "user": ["a", "b", "c"],
            "item": pa.array(
                [["x", None], ["y"], ["x", "y", "z"]], pa.list_(pa.dictionary(pa.int32(), pa.string()))
            ),
            "tags": [[["p"], []], [["q", "r"]], [[], ["s"], None]],
        }
    )
    packed = pack_sequences(table.column("item"), 3).apply(table)
    assert packed.column_names == ["sequence", "start", "length", "item", "tags"]
    assert packed.column("item").to_pylist() == [["x", "y", "z"], ["x", None, "y"]]
    assert packed.column("tags").to_pylist() == [[[], ["s"], None], [["p"], [], ["q", "r"]]]
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(range(6)), 2)
    assert pack_sequences(fixed, 4).apply(fixed).column("tokens").to_pylist() == [[0, 1, 2, 3], [4, 5]]


def test_some_of_the_packs() -> None:
    packs = pack_sequences([4, 3, 3, 2], 5)
    assert pieces(packs.take([2, 0]), [[0] * 4, [1] * 3, [2] * 3, [3] * 2]) == [[[2] * 3], [[0] * 4]]
    assert len(packs.take([])) == 0
    assert packs.take([]).tokens.tolist() == []


def test_no_sequences() -> None:
    packs = pack_sequences([], 5, too_long="window")
    assert (len(packs), packs.fill, packs.costs.tolist()) == (0, 0, [])
    assert packs.apply(pa.array([], pa.list_(pa.int8()))).num_rows == 0


def test_errors() -> None:
    with pytest.raises(UserError, match="sequence 1 has 9 tokens, a pack holds 0 to 5") as found:
        pack_sequences([1, 9], 5)
    assert "too_long='window'" in str(found.value)
    with pytest.raises(UserError, match="sequence 1 has -9 tokens"):
        pack_sequences([1, -9], 5, too_long="window")
    with pytest.raises(UserError, match="not even one event fits"):
        pack_sequences([1], 5, Cost(6), too_long="window")
    with pytest.raises(UserError, match="unknown too_long='cut'"):
        pack_sequences([1], 5, too_long="cut")  # type: ignore[arg-type]
    packs = pack_sequences([1, 2], 5)
    with pytest.raises(UserError, match="there is no event 1 in sequence 1"):
        packs.apply(pa.array([[1], [2]]))
    with pytest.raises(UserError, match="there is no event 1 in sequence 1"):
        packs.apply(pa.array([[1]]))
    with pytest.raises(UserError, match="a list is null"):
        packs.apply(pa.array([[1], None]))
    with pytest.raises(UserError, match="only lists can be packed"):
        packs.apply(pa.array([1, 2]))
