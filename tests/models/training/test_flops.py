"""Floating-point operations, against examples counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from behavior.shards.folder import open_shards
from models.build import build_objective
from models.config import RunConfig, load_config
from models.data.batch import PackedBatch
from models.tasks.retrieval import LossBatch
from models.training.flops import StepWork, peak_flops, peak_flops_of, training_flops
from tests.models.training.training_runs import ITEMS, circle


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"))


def config(*overrides: str) -> RunConfig:
    return load_config("default", ["model.dim=8", "model.blocks=3", "model.heads=2", *overrides])


def test_hstu_by_hand(shards: Path) -> None:
    """Three blocks of 8 x 32 (U, V, Q, K) and 8 x 8; two heads of 4; 5 negatives."""
    settings = config("loss.negatives.count=5")
    flops = training_flops(build_objective(settings, open_shards(shards)).model, settings)
    assert flops.token == 6 * 3 * (8 * 32 + 8 * 8)
    # Half of n * n pairs, 2 heads, 4 + 4 multiplications and additions each; 1 forward + 2.5 backward.
    assert flops.squared_length == 3 * 3.5 * 2 * (4 + 4) * 2 / 2
    assert flops.position == 6 * 5 * 8
    assert flops.of(StepWork(tokens=10, squared_lengths=52, positions=8)) == pytest.approx(
        10 * flops.token + 52 * flops.squared_length + 8 * flops.position
    )


def test_the_full_softmax_meets_every_item(shards: Path) -> None:
    settings = config("loss.kind=full_softmax")
    model = build_objective(settings, open_shards(shards)).model
    assert training_flops(model, settings).position == 6 * ITEMS * 8
    sampled = config("loss.negatives.count=1000")  # no more than there are
    assert training_flops(model, sampled).position == 6 * ITEMS * 8


@pytest.mark.parametrize("kind", ["hstu", "sasrec"])
def test_linear_layers_and_loss_are_what_torch_counts(shards: Path, kind: str) -> None:
    """Attention's kernels are our own, unknown to torch; the rest it can count, loss included."""
    settings = config(f"model.kind={kind}", "loss.kind=full_softmax", "model.bias=none")
    objective = build_objective(settings, open_shards(shards))
    batch = PackedBatch.from_lists([[2, 3, 4, 5], [6, 7]])
    counter = FlopCounterMode(display=False)
    with counter:
        objective(LossBatch(batch)).backward()
    ours = training_flops(objective.model, settings)
    # The first layer's input needs no gradient only where nothing learned stands before it: all are counted.
    assert counter.get_total_flops() == pytest.approx(ours.token * 6 + ours.position * 4)


def test_peaks_go_by_name_and_number_format() -> None:
    assert peak_flops_of("NVIDIA H100 80GB HBM3", "bf16-mixed", tf32=False) == 989e12
    assert peak_flops_of("NVIDIA H100 80GB HBM3", "32-true", tf32=True) == 495e12
    assert peak_flops_of("NVIDIA H100 80GB HBM3", "32-true", tf32=False) == 67e12
    assert peak_flops_of("NVIDIA H100 PCIe", "bf16-mixed", tf32=False) == 756e12
    assert peak_flops_of("NVIDIA A100-SXM4-80GB", "bf16-mixed", tf32=False) == 312e12
    assert peak_flops_of("NVIDIA GeForce GTX 1080", "bf16-mixed", tf32=False) is None
    assert peak_flops(torch.device("cpu"), "bf16-mixed") is None
