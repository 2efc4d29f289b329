from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from behavior.errors import UserError
from behavior.packing.pack import Cost, Packs, deal_packs, pack_sequences
from tests.behavior.logs import many


def sequences_of(packs: Packs) -> list[int]:
    return sorted(packs.sequence.tolist())


@many
@given(
    st.lists(st.integers(0, 30), max_size=60),
    st.integers(30, 60),
    st.integers(1, 9),
    st.sampled_from([Cost(), Cost(1, 1), Cost(0.3, 0.01)]),
    st.booleans(),
)
def test_dealt_to_ranks(lengths: list[int], most: int, ranks: int, cost: Cost, by_tokens: bool) -> None:
    packs = pack_sequences(lengths, most) if by_tokens else pack_sequences(lengths, cost.of([most])[0], cost)
    steps = -(-len(packs) // ranks)
    if len(lengths) < steps * ranks:
        with pytest.raises(
            UserError, match=f"{len(lengths)} sequences cannot make {steps} packs for each of"
        ):
            deal_packs(packs, ranks, cost)
        return
    dealt = deal_packs(packs, ranks, cost)
    assert len(dealt.packs) == steps * ranks
    assert dealt.rank.tolist() == list(range(ranks)) * steps
    assert dealt.step.tolist() == [step for step in range(steps) for _ in range(ranks)]
    assert sequences_of(dealt.packs) == list(range(len(lengths)))
    assert (np.diff(dealt.packs.offsets) > 0).all()
    assert (dealt.packs.costs <= packs.budget).all()
    np.testing.assert_array_equal(dealt.packs.lengths, np.array(lengths, np.int64)[dealt.packs.sequence])
    # Steps are runs of the packs in order of cost.
    costs = dealt.packs.costs_by(cost).reshape(steps, ranks)
    assert (costs[:-1].min(axis=1, initial=np.inf) >= costs[1:].max(axis=1, initial=0)).all()
    for rank in range(ranks):
        own = dealt.of_rank(rank)
        np.testing.assert_array_equal(own.costs_by(cost), costs[:, rank])


def test_steps_are_balanced_for_many_sequences() -> None:
    generator = np.random.default_rng(0)
    lengths = np.clip(generator.lognormal(4.5, 1.0, 30_000), 1, 1024).astype(np.int64)
    packs = pack_sequences(lengths, 4096)
    assert len(packs) % 8
    cost = Cost(256, 1)
    dealt = deal_packs(packs, 8, cost)
    costs = dealt.packs.costs_by(cost).reshape(-1, 8)
    assert np.median(costs.max(axis=1) / costs.mean(axis=1)) < 1.01
    totals = costs.sum(axis=0)
    assert totals.max() / totals.mean() < 1.001


def test_a_known_deal() -> None:
    # The packs hold [5], [4, 1] and [1, 1]: the last is taken apart for the two ranks.
    dealt = deal_packs(pack_sequences([5, 4, 1, 1, 1], 5), 2)
    assert dealt.packs.tokens.tolist() == [5, 5, 1, 1]
    assert dealt.of_rank(0).sequence.tolist() == [0, 3]
    assert dealt.of_rank(1).sequence.tolist() == [1, 2, 4]


@many
@given(st.lists(st.integers(1, 100), min_size=20, max_size=60), st.integers(2, 9))
def test_the_result_depends_on_the_arguments_alone(lengths: list[int], ranks: int) -> None:
    packs = pack_sequences(lengths, 100)
    assume(len(lengths) >= -(-len(packs) // ranks) * ranks)
    one, two = deal_packs(packs, ranks), deal_packs(pack_sequences(np.array(lengths, np.int32), 100), ranks)
    np.testing.assert_array_equal(one.packs.sequence, two.packs.sequence)
    np.testing.assert_array_equal(one.packs.offsets, two.packs.offsets)


def test_errors() -> None:
    with pytest.raises(UserError, match="ranks is a number from 1"):
        deal_packs(pack_sequences([1], 5), 0)
