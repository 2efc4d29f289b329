"""Two processes on two GPUs, through NCCL: what `several_processes` asks of CPUs as well.

Each check is made in a process of its own, which is ended where a GPU waits for another in vain.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.models.distributed import several_processes as checks
from tests.models.distributed import two_ranks as ranks
from tests.models.training.training_runs import circle
from tests.models.warm import run_apart

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices"),
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def alone(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    run = tmp_path_factory.mktemp("alone") / "run"
    run_apart(checks.train_alone, shards, run, "cuda")
    return run


def test_operations_are_captured_and_replayed() -> None:
    run_apart(ranks.as_two, ranks.collectives, "cuda")


def test_copies_of_a_model_stay_equal_to_the_bit(shards: Path) -> None:
    run_apart(ranks.as_two, ranks.same_bits, "cuda", shards)


def test_two_processes_give_the_losses_of_one(shards: Path, alone: Path, tmp_path: Path) -> None:
    run_apart(checks.check_losses, shards, alone, tmp_path / "run", "cuda")


def test_a_run_goes_on_with_fewer_processes(shards: Path, alone: Path, tmp_path: Path) -> None:
    run_apart(checks.check_fewer_processes, shards, alone, tmp_path / "run", "cuda")


def test_a_run_begun_with_shards_goes_on_in_one_process(shards: Path, alone: Path, tmp_path: Path) -> None:
    run_apart(checks.check_begun_with_shards, shards, alone, tmp_path / "run", "cuda")


def test_a_run_begun_in_one_process_goes_on_with_shards(shards: Path, tmp_path: Path) -> None:
    run_apart(checks.check_gone_on_with_shards, shards, tmp_path, "cuda")


def test_drawn_negatives_and_their_losses_are_those_of_whole_tables(shards: Path, tmp_path: Path) -> None:
    run_apart(checks.check_drawn_negatives, shards, tmp_path, "cuda")


def test_gradients_by_rows_of_copies_are_those_of_shards(shards: Path, tmp_path: Path) -> None:
    run_apart(checks.check_drawn_negatives, shards, tmp_path, "cuda", *checks.BY_ROWS)


def test_captured_steps_give_the_losses_of_one_process(shards: Path, alone: Path, tmp_path: Path) -> None:
    run_apart(checks.check_captured, shards, alone, tmp_path, "cuda")


def test_in_bfloat16_two_processes_give_the_losses_of_one(shards: Path, tmp_path: Path) -> None:
    run_apart(checks.check_bfloat16, shards, tmp_path, "cuda")


@pytest.mark.parametrize("captured", ["false", "true"])
def test_a_process_that_ends_early_is_an_error(captured: str, shards: Path, tmp_path: Path) -> None:
    setting = f"train.cuda_graphs={captured}"
    run_apart(checks.check_an_early_end, shards, tmp_path / "run", "cuda", setting)
