"""Batches of columns of several dtypes: one buffer, padding, and copies of it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from behavior.shards.folder import ShardFolder, open_shards
from models.data.batch import PackedBatch
from models.data.columns import Column
from models.data.declared import CORE
from models.data.loading import ShardSource, TrainLoader
from tests.models.data.feature_world import DTYPES, NONE, RICH, STORED, asked
from tests.models.shards import USERS, write_shards


@pytest.fixture
def shards(tmp_path: Path) -> ShardFolder:
    return open_shards(write_shards(tmp_path / "data", USERS, RICH))


def test_columns_of_several_dtypes_share_one_buffer(shards: ShardFolder) -> None:
    (batch,) = TrainLoader(ShardSource(shards, columns=asked(shards, *STORED)), max_length=9)
    assert batch.buffer is not None
    held = sorted((tensor.data_ptr(), tensor.nbytes) for tensor in (*batch.values.values(), batch.offsets))
    assert all(start + size <= after for (start, size), (after, _) in pairwise(held))
    first = batch.buffer.data_ptr()
    assert all((start - first) % 128 == 0 for start, _ in held)
    there = batch.to("meta")
    assert {name: there[name].dtype for name in DTYPES} == DTYPES
    again = batch.to("cpu")
    assert all(torch.equal(again[name], batch[name]) for name in CORE.names)


def test_a_buffer_may_be_a_part_of_another(shards: ShardFolder) -> None:
    (batch,) = TrainLoader(ShardSource(shards, columns=asked(shards, "device", "price")), max_length=9)
    padded = batch.padded(12, 4, 9)
    assert padded.buffer is not None
    size = padded.buffer.numel()
    whole = torch.zeros(256 + size, dtype=torch.uint8)
    whole[256:] = padded.buffer
    there = PackedBatch.of_room(whole[256:], 12, 4, 9, has_time=True, columns=batch.columns)
    for name in batch.columns.names:
        np.testing.assert_array_equal(there[name], padded[name])
    assert there.offsets.tolist() == padded.offsets.tolist()
    assert there.sequence.tolist() == padded.sequence.tolist()
    assert not whole[:256].any()


def test_padding_has_each_columns_fill() -> None:
    columns = {
        Column("device", "int16", fill=-1): [[3, 4], [5]],
        Column("price", "float64", fill=NONE): [[1, 2], [3]],
    }
    batch = PackedBatch.from_lists([[2, 3], [4]], more=columns)
    padded = batch.padded(5, 2, 3)
    assert (padded["device"].dtype, padded["price"].dtype) == (torch.int16, torch.float64)
    assert padded["device"].tolist() == [3, 4, 5, -1, -1]
    np.testing.assert_equal(padded["price"].tolist(), [1.0, 2.0, 3.0, NONE, NONE])
    assert padded.item.tolist() == [2, 3, 4, 0, 0]
    for moved in (batch.to("cpu"), batch.with_values(item=torch.tensor([7, 8, 9]))):
        assert moved["device"].tolist() == [3, 4, 5]
    with pytest.raises(ValueError, match=r"device must be flat and int16, not \[3\] torch.int64"):
        batch.with_values(device=torch.tensor([1, 2, 3])).validate()
    with pytest.raises(ValueError, match=r"there are item, .*, other, not item"):
        batch.with_values(other=torch.tensor([1, 2, 3])).validate()


def test_ids_of_32_bits_look_up_the_same_rows_and_give_the_same_gradients(shards: ShardFolder) -> None:
    (batch,) = TrainLoader(ShardSource(shards, columns=asked(shards, "device")), max_length=9)
    gradients = []
    for ids in (batch["device"], batch["device"].long()):
        table = nn.Embedding(5, 3, padding_idx=0)
        nn.init.ones_(table.weight)
        (table(ids) * torch.arange(len(ids))[:, None]).sum().backward()
        gradients.append(table.weight.grad)
    assert torch.equal(*gradients)
