"""The few sizes of captured steps, and how steps are put into their places."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.data.batch import PackedBatch
from models.data.columns import Column
from models.data.declared import CORE
from models.tasks.loss_batch import LossBatch
from models.training.static_input import StaticInput, StepSize, round_up


@given(st.integers(0, 1 << 24))
def test_less_than_an_eighth_is_padding(count: int) -> None:
    size = round_up(count)
    assert size >= max(count, 1)
    assert size % 64 == 0
    assert size - count < max(count / 8, 64 + (count == 0))


def test_there_are_few_sizes() -> None:
    assert [round_up(count) for count in (1, 64, 65, 128, 1024, 1025)] == [64, 64, 128, 128, 1024, 1152]
    assert len({round_up(count) for count in range(1 << 14, 1 << 15)}) == 9
    batch = PackedBatch.from_lists([[2] * 130, [3] * 10])
    assert StepSize.holding(LossBatch(batch)) == (192, 64, 192, 0)
    assert StepSize.holding(LossBatch(batch, torch.arange(5))) == (192, 64, 64, 0)


def test_every_column_is_put_in_with_its_dtype_and_fill() -> None:
    device, price = Column("device", "int32", fill=-1), Column("price", "float32", fill=0.5)
    first = PackedBatch.from_lists([[2, 3, 4]], more={device: [[7, 8, 9]], price: [[1.5, 2.5, 3.5]]})
    then = PackedBatch.from_lists([[5, 6]], more={device: [[4, 3]], price: [[0.25, 0.75]]})
    fixed = StaticInput(StepSize(5, 2, 3), LossBatch(first), longest=3, device=torch.device("cpu"))
    for batch in (first, then):
        fixed.put(LossBatch(batch))
        found, empty = fixed.step().batch, 5 - batch.num_events
        assert (found["device"].dtype, found["price"].dtype) == (torch.int32, torch.float32)
        assert found["device"].tolist() == batch["device"].tolist() + [-1] * empty
        assert found["price"].tolist() == batch["price"].tolist() + [0.5] * empty
        assert found.item.tolist() == batch.item.tolist() + [0] * empty
        assert fixed.step().positions.tolist()[: batch.num_events - 1] == list(range(batch.num_events - 1))


def test_a_step_put_in_leaves_nothing_of_the_last_one() -> None:
    long = PackedBatch.from_lists([[9, 8, 7], [6, 5, 4, 3, 2]], timestamps=[[4, 5, 6], [1, 2, 3, 4, 5]])
    short = PackedBatch.from_lists([[2, 3], [4]], timestamps=[[10, 20], [30]])
    fixed = StaticInput(StepSize(12, 4, 6), LossBatch(long), longest=8, device=torch.device("cpu"))
    place = fixed.buffer.data_ptr()
    for batch in (long, short):
        fixed.put(LossBatch(batch))
        step = fixed.step()
        count = batch.num_events
        for column in CORE.names:
            values = getattr(step.batch, column).tolist()
            assert values == getattr(batch, column).tolist() + [0] * (12 - count), column
        ends = [count] * (4 - batch.num_sequences)
        assert step.batch.offsets.tolist() == batch.offsets.tolist() + ends
        assert step.mask is not None
        assert step.positions[step.mask].tolist() == LossBatch(batch).positions.tolist()
        # Those that do not count are looked up nevertheless, each somewhere else.
        assert len(step.positions) == 6
        assert len(set(step.positions[~step.mask].tolist())) == 6 - int(step.mask.sum())
        assert int(step.positions.max()) < 12
        assert step.batch.has_time
    assert fixed.buffer.data_ptr() == place
    assert step.batch.sequences is not fixed.step().batch.sequences  # what is kept by it is found anew


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_steps_are_sent_while_a_gpu_takes_those_before() -> None:
    """Each finds its own, though all are put in before the first is taken."""
    batches = [PackedBatch.from_lists([[2 + number] * 60_000]) for number in range(20)]
    steps = [LossBatch(batch) for batch in batches]
    fixed = StaticInput(StepSize.holding(steps[0]), steps[0], longest=60_000, device=torch.device("cuda"))
    found = []
    for step in steps:
        torch.cuda._sleep(2_000_000)  # a millisecond
        fixed.put(step)
        torch.cuda._sleep(2_000_000)
        found.append(fixed.step().batch.item.clone())
    for one, batch in zip(found, batches, strict=True):
        assert torch.equal(one[:60_000].cpu(), batch.item)
        assert not one[60_000:].any()
