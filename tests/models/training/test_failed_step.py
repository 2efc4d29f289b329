"""Failed steps, written and read again."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file

from models.data.batch import PackedBatch
from models.data.columns import Column
from models.data.declared import CORE
from models.tasks.flops import StepWork
from models.training.failed_step import load_failed_step, save_failed_step
from models.training.step import TakenStep


def failed(parts: list[PackedBatch]) -> TakenStep:
    losses = [torch.tensor(1.0), torch.tensor(math.nan)]
    return TakenStep(3, 1, parts, losses, None, learning_rate=0.1, work=StepWork(10.0, 0.0, 1.0))


def test_a_failed_step_comes_back_with_all_its_columns(tmp_path: Path) -> None:
    device, price = Column("device", "int32", fill=-1), Column("price", "float32", fill=math.nan)
    first = PackedBatch.from_lists([[2, 3], [4]], more={device: [[1, 2], [3]], price: [[0.5, math.nan], [2]]})
    second = PackedBatch.from_lists([[5]], timestamps=[[9]], more={device: [[4]], price: [[0.25]]})
    save_failed_step(tmp_path / "failed" / "step-3.safetensors", failed([first, second]))
    saved, note = load_failed_step(tmp_path / "failed" / "step-3.safetensors")
    for mine, theirs in zip(saved, (first, second), strict=True):
        assert mine.columns.names == theirs.columns.names == (*CORE.names, "device", "price")
        for name, values in theirs.values.items():
            torch.testing.assert_close(mine[name], values, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(mine.offsets, theirs.offsets)
        assert torch.equal(mine.sequence, theirs.sequence)
        assert mine.has_time == first.has_time
    assert saved[0].padded(4, 2, 3)["device"].tolist() == [1, 2, 3, -1]
    assert saved[0].padded(4, 2, 3)["price"].isnan().tolist() == [False, True, False, True]
    assert (note["step"], note["epoch"], note["losses"]) == (3, 2, ["1.0", "nan"])


def test_files_of_before_columns_were_open_are_read(tmp_path: Path) -> None:
    batch = PackedBatch.from_lists([[2, 3], [4]], timestamps=[[5, 6], [7]])
    names = ("item", "behavior", "timestamp", "query_time", "position", "target", "target_behavior")
    tensors = {f"0.{name}": getattr(batch, name) for name in (*names, "offsets", "sequence")}
    note = {
        "step": 7,
        "epoch": 0,
        "losses": ["nan"],
        "gradient_norm": None,
        "learning_rate": 1e-3,
        "has_time": True,
    }
    save_file(tensors, tmp_path / "old", metadata={"lrm-kit failed step": json.dumps(note)})
    (read,), found = load_failed_step(tmp_path / "old")
    assert found == note
    assert read.columns == CORE
    assert all(torch.equal(read[name], batch[name]) for name in names)
    assert read.lengths.tolist() == [2, 1]
