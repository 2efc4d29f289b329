"""Processes that divide the table of items train to what one process, or whole tables, give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from behavior.errors import UserError
from models.batch import PackedBatch
from models.evaluation import evaluate_run
from models.flops import StepWork
from models.training import train
from models.training.failed_step import load_failed_step
from models.training.losses import StepLosses
from models.training.processes import Processes
from models.training.step import TakenStep
from tests.models.test_training_processes import EXACT, TWO, check_alike
from tests.models.training_runs import circle, records, settings, weights

pytestmark = pytest.mark.usefixtures("warm_workers")

SHARDED = (*TWO, "train.item_table=sharded")
ROWWISE = ("optimizer.item_table=rowwise_adagrad", "optimizer.item_learning_rate=0.1")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"))


def test_a_run_begun_with_shards_goes_on_in_one_process(shards: Path, tmp_path: Path) -> None:
    """In two parts a step; one process has nothing to do in the last step."""
    alone, run = tmp_path / "alone", tmp_path / "run"
    train(settings(*EXACT), shards, alone)
    train(settings(*EXACT, *SHARDED, "train.accumulate=2", "train.epochs=1"), shards, run)
    logged = [line for line in records(run) if line["kind"] == "valid"][-1]
    judged = evaluate_run(run, "valid", checkpoint="last")
    assert {name: judged[name] for name in ("ndcg@10", "mrr@10", "targets")} == {
        name: logged[name] for name in ("ndcg@10", "mrr@10", "targets")
    }
    for name, weight in weights(run, "last").items():
        assert torch.equal(weight, weights(run, "best")[name])
    train(settings(*EXACT), shards, run, resume=True)
    check_alike(run, alone)


def test_a_run_begun_in_one_process_goes_on_with_shards(shards: Path, tmp_path: Path) -> None:
    alone, run = tmp_path / "alone", tmp_path / "run"
    train(settings(*EXACT, *ROWWISE), shards, alone)
    train(settings(*EXACT, *ROWWISE, "train.epochs=1"), shards, run)
    train(settings(*EXACT, *ROWWISE, *SHARDED), shards, run, resume=True)
    check_alike(run, alone)


def test_drawn_negatives_and_their_losses_are_those_of_whole_tables(shards: Path, tmp_path: Path) -> None:
    sampled = (
        *EXACT,
        "loss.kind=sampled_softmax",
        "loss.negatives.source=mixed",
        "loss.negatives.sharing=position",
        "loss.negatives.count=3",
        "train.epochs=1",
    )
    train(settings(*sampled, *TWO), shards, tmp_path / "whole")
    train(settings(*sampled, *SHARDED), shards, tmp_path / "run")
    check_alike(tmp_path / "run", tmp_path / "whole")


class _BesideAFailure(Processes):
    """The first of two processes; what the other has to say is always 1."""

    def total(self, values: Sequence[float]) -> list[float]:
        return [value + 1.0 for value in values]


def test_weights_that_are_no_numbers_elsewhere_stop_this_process_too(tmp_path: Path) -> None:
    batch = PackedBatch.from_lists([[2, 3]])
    step = TakenStep(4, 0, [batch], [torch.tensor(1.0)], None, 0.1, StepWork(2, 4, 1))
    good = [torch.ones(2)]
    alone = StepLosses(Processes(), tmp_path)
    alone.add(step, 1.0)
    alone.check_weights(good)
    beside = StepLosses(_BesideAFailure(count=2), tmp_path)
    beside.add(step, 1.0)
    with pytest.raises(UserError, match="the weights are no longer finite numbers after step 4"):
        beside.check_weights(good)
    assert load_failed_step(tmp_path / "step-4.safetensors")[0][0].item.tolist() == [2, 3]
