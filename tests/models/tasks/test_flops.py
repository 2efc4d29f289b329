"""Floating-point operations, against examples counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.utils.flop_counter import FlopCounterMode

from behavior.shards.folder import open_shards
from models.backbones.kinds import BACKBONES
from models.build import build_task
from models.config import RunConfig, load_config
from models.data.batch import PackedBatch
from models.tasks.flops import StepWork, attended
from tests.models.training.training_runs import ITEMS, circle


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"))


def config(*overrides: str) -> RunConfig:
    return load_config("default", ["model.dim=8", "model.blocks=3", "model.heads=2", *overrides])


def test_hstu_by_hand(shards: Path) -> None:
    """Three blocks of 8 x 32 (U, V, Q, K) and 8 x 8; two heads of 4; 5 negatives."""
    settings = config("loss.negatives.count=5")
    flops = build_task(settings, open_shards(shards)).flops()
    assert flops.token == 6 * 3 * (8 * 32 + 8 * 8)
    # Half of n * n pairs, 2 heads, 4 + 4 multiplications and additions each; 1 forward + 2.5 backward.
    assert flops.squared_length == 3 * 3.5 * 2 * (4 + 4) * 2 / 2
    assert flops.position == 6 * 5 * 8
    assert flops.of(StepWork(tokens=10, squared_lengths=52, positions=8)) == pytest.approx(
        10 * flops.token + 52 * flops.squared_length + 8 * flops.position
    )


def test_the_full_softmax_meets_every_item(shards: Path) -> None:
    settings = config("loss.kind=full_softmax")
    assert build_task(settings, open_shards(shards)).flops().position == 6 * ITEMS * 8
    sampled = config("loss.negatives.count=1000")  # no more than there are
    assert build_task(sampled, open_shards(shards)).flops().position == 6 * ITEMS * 8


def test_history_logits_are_two_maps_and_a_product_a_pair(shards: Path) -> None:
    """Half of n * n pairs, 5 multiplications and additions each, and twice that backward; tables: nothing."""
    plain = build_task(config(), open_shards(shards)).flops()
    learned = "loss.history=learned"
    ours = build_task(config(learned, "loss.history_dim=5"), open_shards(shards)).flops()
    assert ours.token - plain.token == 6 * 2 * 8 * 5
    assert ours.squared_length - plain.squared_length == 3 * 5 * 2 / 2
    tables = build_task(config(learned, "loss.history_terms=[behavior]"), open_shards(shards)).flops()
    assert tables == plain


@pytest.mark.parametrize("kind", ["hstu", "sasrec"])
def test_linear_layers_and_loss_are_what_torch_counts(shards: Path, kind: str) -> None:
    """Attention's kernels are our own, unknown to torch; the rest it can count, loss included."""
    settings = config(f"model.kind={kind}", "loss.kind=full_softmax", "model.bias=none")
    task = build_task(settings, open_shards(shards))
    batch = PackedBatch.from_lists([[2, 3, 4, 5], [6, 7]])
    counter = FlopCounterMode(display=False)
    with counter:
        task.objective(task.prepare(batch)).backward()
    ours = task.flops()
    # The first layer's input needs no gradient only where nothing learned stands before it: all are counted.
    assert counter.get_total_flops() == pytest.approx(ours.token * 6 + ours.position * 4)


@pytest.mark.parametrize("kind", list(BACKBONES))
def test_the_whole_of_a_dense_step_is_what_torch_counts(shards: Path, kind: str) -> None:
    """On the dense path every query meets every key; otherwise all products are the real ones."""
    settings = config(f"model.kind={kind}", "model.attention=reference", "loss.kind=full_softmax")
    task = build_task(settings, open_shards(shards))
    batch = PackedBatch.from_lists([[2, 3, 4, 5], [6, 7, 8, 9]])
    counter = FlopCounterMode(display=False)
    with counter:
        task.objective(task.prepare(batch)).backward()
    ours, pairs, positions = task.flops(), 2 * 4 * 4, 6
    assert counter.get_total_flops() == ours.token * 8 + ours.pair * pairs + ours.position * positions
    # Of the dense path's pairs those are needed that are causal: 10 of the 16 of each sequence.
    work = StepWork(8, task.squared_lengths((4, 4)), positions)
    assert ours.exact(work) == ours.token * 8 + ours.pair * 2 * 10 + ours.position * positions


def test_exact_operations_follow_real_lengths_and_windows(shards: Path) -> None:
    """Pairs counted one by one, of sequences of several lengths, with and without local attention."""
    for local in (None, (3, 2)):
        named = [] if local is None else ["model.attention_window=3", "model.attention_global=2"]
        task = build_task(config("model.max_length=12", *named), open_shards(shards))
        lengths = (12, 5, 1)
        seen = sum(
            local is None or j > i - local[0] or j < local[1]
            for length in lengths
            for i in range(length)
            for j in range(i + 1)
        )
        found = task.flops().exact(StepWork(18, task.squared_lengths(lengths), 0))
        assert found == task.flops().token * 18 + task.flops().pair * seen


@pytest.mark.parametrize("local", [(1, 0), (3, 0), (3, 2), (4, 5)])
def test_local_attention_is_about_fewer_pairs(shards: Path, local: tuple[int, int]) -> None:
    window, front = local
    for length in range(12):
        hidden = sum(front <= j <= i - window for i in range(length) for j in range(i))
        assert attended(length, local) == length * length - 2 * hidden
    named = [f"model.attention_window={window}", f"model.attention_global={front}"]
    task = build_task(config("model.max_length=12", *named), open_shards(shards))
    assert task.squared_lengths((12, 5)) == attended(12, local) + attended(5, local)
