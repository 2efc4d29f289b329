from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.data.batch import PackedBatch
from models.data.declared import CORE


@pytest.fixture
def batch() -> PackedBatch:
    return PackedBatch.from_lists(
        [[7, 8, 9], [], [5]], behaviors=[[1, 2, 1], [], [2]], timestamps=[[10, 20, 40], [], [3]]
    )


def test_columns_lie_end_to_end(batch: PackedBatch) -> None:
    assert batch.item.tolist() == [7, 8, 9, 5]
    assert batch.offsets.tolist() == [0, 3, 3, 4]
    assert batch.position.tolist() == [0, 1, 2, 0]
    assert batch.behavior.tolist() == [1, 2, 1, 2]
    assert batch.timestamp.tolist() == [10, 20, 40, 3]
    assert batch.sequence.tolist() == [0, 1, 2]


def test_by_default_the_next_event_is_the_target_and_gives_the_time(batch: PackedBatch) -> None:
    assert batch.target.tolist() == [8, 9, 0, 0]
    assert batch.target_behavior.tolist() == [2, 1, 0, 0]
    assert batch.query_time.tolist() == [20, 40, 40, 3]


def test_sizes(batch: PackedBatch) -> None:
    assert (batch.num_events, batch.num_sequences, batch.max_length) == (4, 3, 3)
    assert batch.lengths.tolist() == [3, 0, 1]
    assert batch.sequences.lengths == (3, 0, 1)


def test_without_timestamps_there_is_no_time() -> None:
    batch = PackedBatch.from_lists([[1, 2]])
    assert not batch.has_time
    assert batch.timestamp.tolist() == batch.query_time.tolist() == [0, 0]


def test_a_batch_may_be_empty() -> None:
    batch = PackedBatch.from_lists([])
    assert (batch.num_events, batch.num_sequences, batch.max_length) == (0, 0, 0)


def test_moving_keeps_the_columns_and_the_known_lengths(batch: PackedBatch) -> None:
    moved = batch.to("meta")
    assert moved.item.device.type == moved.sequences.offsets.device.type == "meta"
    assert moved.max_length == 3  # a meta tensor could not have told
    assert moved.has_time


def test_batches_can_be_sent_to_other_processes(batch: PackedBatch) -> None:
    copy = pickle.loads(pickle.dumps(batch))
    assert torch.equal(copy.item, batch.item)
    assert copy.max_length == batch.max_length


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"item": torch.tensor([1, 2, 3])}, "differ in length"),
        ({"target": torch.tensor([1.0, 2.0, 0.0, 0.0])}, "target must be flat and int64"),
        ({"behavior": torch.ones(1, 4, dtype=torch.int64)}, "behavior must be flat and int64"),
        ({"offsets": torch.tensor([0, 3, 3])}, "offsets must run from 0 to the number of events, 4"),
        ({"offsets": torch.tensor([0, 3, 2, 4])}, "offsets must not fall"),
        ({"sequence": torch.tensor([0])}, "sequence has 1 rows for 3 sequences"),
        ({"position": torch.tensor([0, 1, 2, 3])}, "positions must count up from 0"),
        ({"item": torch.tensor([7, 0, 9, 5])}, "item 0 is padding"),
        ({"target": torch.tensor([-1, 0, 0, 0])}, "cannot be negative"),
    ],
)
def test_validate_names_the_broken_rule(batch: PackedBatch, changes: dict, message: str) -> None:
    values = {name: tensor for name, tensor in changes.items() if name in CORE}
    others = {name: tensor for name, tensor in changes.items() if name not in CORE}
    broken = replace(batch.with_values(**values), **others)
    with pytest.raises(ValueError, match=message):
        broken.validate()


def test_a_padded_batch_holds_the_same_and_knows_no_lengths() -> None:
    batch = PackedBatch.empty(np.array([3, 0, 2]), has_time=True)
    for number, column in enumerate(CORE.names):
        getattr(batch, column).copy_(torch.arange(5) + 10 * number + 1)
    batch.sequence.copy_(torch.tensor([7, 8, 9]))
    padded = batch.padded(8, 5, longest=4).to("cpu")
    for column in CORE.names:
        assert getattr(padded, column).tolist() == [*getattr(batch, column).tolist(), 0, 0, 0]
    assert padded.offsets.tolist() == [0, 3, 3, 5, 5, 5]
    assert padded.sequence.tolist() == [7, 8, 9, -1, -1]
    assert (padded.num_events, padded.num_sequences, padded.max_length) == (8, 5, 4)
    assert padded.sequences.lengths == ()
    assert padded.buffer is not None
    # All batches of this size lie alike in memory: one can be copied over another.
    assert padded.buffer.shape == batch.padded(8, 5, longest=4).buffer.shape  # type: ignore[union-attr]
    with pytest.raises(
        ValueError, match="5 events in 3 sequences of up to 3 do not fit into 4 in 5 of up to 4"
    ):
        batch.padded(4, 5, longest=4)
