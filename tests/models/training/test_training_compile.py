"""Compiled blocks: the same numbers, and no compilation a batch."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from behavior.errors import UserError
from models.backbones import BackboneConfig, build_backbone
from models.data.batch import PackedBatch
from models.training import setup, train
from models.training.compile import compile_blocks
from tests.models.tokens import tokens_of
from tests.models.training.training_runs import circle, records, settings

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def backbone(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return build_backbone(BackboneConfig(kind=kind, dim=8, blocks=3, dropout=0.0), max_length=12)


def batch(sequences: int) -> PackedBatch:
    numbers = random.Random(sequences)
    items = [[numbers.randrange(1, 9) for _ in range(numbers.randrange(2, 12))] for _ in range(sequences)]
    return PackedBatch.from_lists(items, timestamps=[[60 * at for at in range(len(row))] for row in items])


@pytest.mark.parametrize("kind", ["hstu", "sasrec"])
def test_compiled_blocks_give_the_same_and_compile_once(kind: str) -> None:
    plain, compiled = backbone(kind), backbone(kind)
    compile_blocks(compiled, CPU, backend="aot_eager")
    graphs = []
    for sequences in (2, 3, 5, 8, 13):
        packed = batch(sequences)
        results = []
        for module in (plain, compiled):
            x = torch.linspace(-1, 1, packed.num_events * 8).view(-1, 8).requires_grad_()
            y = module(x, tokens_of(packed))
            y.square().sum().backward()
            results.append((y, x.grad))
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] > 0
    assert set(graphs) == {graphs[0]}
    assert compiled.state_dict().keys() == plain.state_dict().keys()


def test_a_compiled_training_has_the_losses_of_a_plain_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = circle(tmp_path / "data")
    plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    train(settings("model.dropout=0"), shards, plain)
    monkeypatch.setattr(setup, "compile_blocks", lambda *given: compile_blocks(*given, backend="eager"))
    train(settings("model.dropout=0", "train.compile=true"), shards, compiled)
    assert counters["stats"]["unique_graphs"] > 0
    for mine, theirs in zip(records(compiled), records(plain), strict=True):
        assert mine.get("loss", 0.0) == pytest.approx(theirs.get("loss", 0.0), rel=1e-5)


def test_a_missing_compiler_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UserError, match=r"needs a C\+\+ compiler") as caught:
        compile_blocks(backbone("hstu"), CPU)
    assert caught.value.where == "train.compile"
