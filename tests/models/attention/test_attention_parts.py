"""Sequences, masks, biases: the small objects that attention is given."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.attention import (
    Causal,
    LocalWindow,
    Mask,
    RelativeBias,
    RelativeTime,
    Sequences,
    blocked,
    silu,
    time_bucket,
)
from models.attention.inputs import AttentionInputs
from tests.models.attention.attention_oracle import bucket


def test_sequences_from_offsets_and_from_lengths_agree() -> None:
    made = Sequences.from_lengths([3, 0, 2])
    read = Sequences.from_offsets(torch.tensor([0, 3, 3, 5]))
    assert made.offsets.tolist() == read.offsets.tolist() == [0, 3, 3, 5]
    assert made.lengths == read.lengths == (3, 0, 2)
    assert (read.num_sequences, read.num_tokens, read.max_length) == (3, 5, 3)


def test_padded_index_names_each_token_once() -> None:
    index, present = Sequences.from_lengths([3, 0, 2]).padded_index()
    assert present.tolist() == [[True, True, True], [False, False, False], [True, True, False]]
    assert index[present].tolist() == [0, 1, 2, 3, 4]


def test_causal_mask() -> None:
    mask = Causal().materialize(Sequences.from_lengths([3, 1]))
    assert mask.int().tolist() == [
        [[1, 0, 0], [1, 1, 0], [1, 1, 1]],
        [[1, 0, 0], [0, 0, 0], [0, 0, 0]],
    ]


def test_local_window() -> None:
    mask = LocalWindow(2).materialize(Sequences.from_lengths([4]))
    assert mask.int().tolist() == [[[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]]


def test_a_window_holds_at_least_the_query() -> None:
    with pytest.raises(ValueError, match="at least the query itself"):
        LocalWindow(0)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    # ln(2) / 0.301 = 2.3, ln(60) / 0.301 = 13.6, ln(86400) / 0.301 = 37.8, e^(128 * 0.301) = 5.4e16
    [(0, 0), (1, 0), (-1, 0), (2, 2), (60, 13), (-60, 13), (86_400, 37), (10**17, 128), (2**62, 128)],
)
def test_time_bucket_of_known_differences(seconds: int, expected: int) -> None:
    assert time_bucket(torch.tensor([seconds])).tolist() == [expected]


@given(st.lists(st.integers(-(10**13), 10**13), min_size=1))
def test_time_bucket_is_the_published_formula(differences: list[int]) -> None:
    assert time_bucket(torch.tensor(differences)).tolist() == [bucket(d) for d in differences]


def test_time_buckets_change_exactly_where_the_formula_does() -> None:
    edges = [math.exp(0.301 * number) for number in range(1, 100)]
    near = sorted({math.floor(edge) + step for edge in edges for step in (-1, 0, 1, 2)})
    assert time_bucket(torch.tensor(near)).tolist() == [bucket(d) for d in near]


def test_bias_is_the_sum_of_its_two_tables() -> None:
    sequences = Sequences.from_lengths([3])
    times = RelativeTime(torch.tensor([1, 61, 61]), torch.tensor([0, 1, 61]), sequences)
    position, time = torch.tensor([1.0, 2.0, 3.0]), torch.arange(129.0) * 100
    rab = RelativeBias(position, time, times).materialize(sequences)[0, 0]
    # position[i - j] + 100 * bucket: differences 1; 61, 60; 61, 60, 0
    assert [rab[i, : i + 1].tolist() for i in range(3)] == [[1.0], [1302.0, 1301.0], [1303.0, 1302.0, 1.0]]


def test_a_bias_needs_a_table_and_a_time_table_needs_times() -> None:
    with pytest.raises(ValueError, match="a position table, a time table, a decay"):
        RelativeBias()
    with pytest.raises(ValueError, match="the times of the batch"):
        RelativeBias(time=torch.zeros(129))


def test_a_position_table_covers_the_longest_sequence() -> None:
    with pytest.raises(ValueError, match="longest sequence, 4 tokens, exceeds the position table, 3"):
        RelativeBias(torch.zeros(3)).check(Sequences.from_lengths([2, 4]), None, 1)


@pytest.mark.parametrize("window", [None, 1, 3])
@pytest.mark.parametrize(("prefix", "context"), [(0, 0), (1, 0), (0, 2), (1, 2)])
@pytest.mark.parametrize("each", [1, 2, 3])
def test_a_candidate_of_several_tokens_sees_what_it_would_alone(
    each: int, window: int | None, prefix: int, context: int
) -> None:
    """The mask, and how far apart tokens are, of each candidate as the end of a plain sequence."""
    histories, counts = [4, 2], [3, 1]
    lengths = [history + each * count for history, count in zip(histories, counts, strict=True)]
    asking = Sequences.from_lengths([each * count + 1 for count in counts])
    sequences = Sequences.from_lengths(lengths)
    mask = Mask(window, prefix, context, each * torch.tensor(counts), each)
    seen, places = mask.materialize(sequences), mask.logical_positions(sequences)
    last = mask.materialize(sequences, asking)
    for row, (history, count) in enumerate(zip(histories, counts, strict=True)):
        kept = asking.lengths[row]
        assert torch.equal(last[row, :kept], seen[row, lengths[row] - kept : lengths[row]])
        alone = Sequences.from_lengths([history + each])
        plain = Mask(window, prefix, context)
        for candidate in range(count):
            first = history + each * candidate
            own = torch.cat([torch.arange(history), torch.arange(first, first + each)])
            assert torch.equal(seen[row][own][:, own], plain.materialize(alone)[0])
            assert torch.equal(places[row, own], plain.logical_positions(alone)[0])
            others = torch.ones(lengths[row], dtype=torch.bool)
            others[own] = False
            others[lengths[row] :] = False
            assert not seen[row, first : first + each][:, : lengths[row]][:, others].any()


def test_kernels_that_see_one_token_of_a_candidate_say_so() -> None:
    q = torch.zeros(5, 1, 8)
    for mask, said in (
        (Mask(None, 0, 0, torch.tensor([4]), 2), True),
        (Causal(candidates=torch.tensor([4])), False),
    ):
        inputs = AttentionInputs(q, q, q, Sequences.from_lengths([5]), "silu", mask, None, 1.0, 1.0)
        for kernel in (blocked, silu):
            assert ("candidates of one token each" in kernel.reasons_against(inputs)) == said
    with pytest.raises(ValueError, match="one token at least"):
        Mask(candidate=0)
