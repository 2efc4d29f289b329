"""Processes that divide the table of items train to what one process, or whole tables, give."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from behavior.errors import UserError
from models.data.batch import PackedBatch
from models.distributed.processes import SINGLE, ReduceOp, SingleProcess
from models.tasks.flops import StepWork
from models.training.failed_step import load_failed_step
from models.training.losses import StepLosses
from models.training.step import TakenStep
from tests.models.distributed.several_processes import (
    BY_ROWS,
    check_begun_with_shards,
    check_drawn_negatives,
    check_gone_on_with_shards,
    train_alone,
)
from tests.models.training.training_runs import circle

pytestmark = pytest.mark.usefixtures("warm_workers")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"))


def test_a_run_begun_with_shards_goes_on_in_one_process(shards: Path, tmp_path: Path) -> None:
    train_alone(shards, tmp_path / "alone", "cpu")
    check_begun_with_shards(shards, tmp_path / "alone", tmp_path / "run", "cpu")


def test_a_run_begun_in_one_process_goes_on_with_shards(shards: Path, tmp_path: Path) -> None:
    check_gone_on_with_shards(shards, tmp_path, "cpu")


def test_drawn_negatives_and_their_losses_are_those_of_whole_tables(shards: Path, tmp_path: Path) -> None:
    check_drawn_negatives(shards, tmp_path, "cpu")


def test_gradients_by_rows_of_copies_are_those_of_shards(shards: Path, tmp_path: Path) -> None:
    check_drawn_negatives(shards, tmp_path, "cpu", *BY_ROWS)


class _BesideAFailure(SingleProcess):
    """The first of two processes; what the other has to say is always 1."""

    count = 2

    def all_reduce(self, tensor: torch.Tensor, op: ReduceOp = "sum") -> torch.Tensor:
        return tensor + 1.0


def test_weights_that_are_no_numbers_elsewhere_stop_this_process_too(tmp_path: Path) -> None:
    batch = PackedBatch.from_lists([[2, 3]])
    step = TakenStep(4, 0, [batch], [torch.tensor(1.0)], None, 0.1, StepWork(2, 4, 1))
    good = [torch.ones(2)]
    alone = StepLosses(SINGLE, tmp_path)
    alone.add(step, 1.0)
    alone.check_weights(good)
    beside = StepLosses(_BesideAFailure(), tmp_path)
    beside.add(step, 1.0)
    with pytest.raises(UserError, match="the weights are no longer finite numbers after step 4"):
        beside.check_weights(good)
    assert load_failed_step(tmp_path / "step-4.safetensors")[0][0].item.tolist() == [2, 3]
