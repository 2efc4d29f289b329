"""Weights of behaviors in the loss, against sums over single positions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.attention import dispatch
from models.build import build_task, make_loader
from models.data.loading import MemorySource
from models.tasks.loss_batch import LossBatch
from models.training import static_input
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.shards import World, load, write_shards
from tests.models.tasks.test_next_behavior import NAMES, users
from tests.models.training import test_captured_step
from tests.models.training.test_training_steps import EXACT, batches, blank_targets, stepper, task_of
from tests.models.training.training_runs import circle, settings

WEIGHTS = {"view": 0.25, "buy": 3.0}
SET = "loss.behavior_weights={view: 0.25, buy: 3.0}"
OF_ID = [0.0, 0.25, 1.0, 3.0]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    world = World(num_items=9, behaviors=NAMES, targets=("buy",))
    return write_shards(tmp_path_factory.mktemp("data"), users(), world)


@pytest.mark.parametrize("kind", ["full_softmax", "sampled_softmax", "bce", "gbce"])
def test_a_step_in_parts_has_the_weighted_mean_of_all_positions(
    kind: str, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of different sizes and mixtures, one of them without targets."""
    given = ["model.dropout=0", f"loss.kind={kind}", "train.batch_sequences=5"]
    given += [] if kind == "full_softmax" else ["loss.negatives.count=4"]
    config, weighted = settings(*given), settings(*given, SET)
    parts = batches(config, shards)[:3]
    parts.append(blank_targets(batches(config, shards)[3]))
    oracle, task = task_of(config, shards).objective, task_of(weighted, shards)
    for objective in (oracle, task.objective):
        test_captured_step.draw_the_same(objective, monkeypatch)
    single = [(part, place) for part in parts for place in LossBatch(part).positions.tolist()]
    weights = [OF_ID[int(part.target_behavior[place])] for part, place in single]
    assert len(set(weights)) == 3
    terms = [
        weight * oracle(LossBatch(part, torch.tensor([place])))
        for weight, (part, place) in zip(weights, single, strict=True)
    ]
    total = torch.stack(terms).sum() / sum(weights)
    total.backward()
    taken = stepper(weighted, task).take(parts, 1, 0)
    assert taken is not None
    assert sum(loss.item() for loss in taken.losses) == pytest.approx(total.item(), rel=1e-5)
    assert (taken.work.positions, taken.work.weight) == (len(single), pytest.approx(sum(weights)))
    expected = dict(oracle.named_parameters())
    for name, parameter in task.objective.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-4, atol=1e-6, msg=name)


def test_processes_that_average_have_the_weighted_mean_of_all(shards: Path) -> None:
    config = settings(*EXACT, "train.batch_sequences=5", SET)
    task = task_of(config, shards)
    parts = [task.prepare(batch) for batch in batches(config, shards)[:2]]
    positions = sum(len(part.positions) for part in parts)
    weight = sum(part.weight or 0.0 for part in parts)
    found = 0.0
    for part in parts:
        part.mean_weight = weight / positions
        found += float(task.objective(part, positions / 2).detach()) / 2
    sums = [float(task.objective(LossBatch(part.batch, part.positions)).detach()) for part in parts]
    expected = sum(mean * (part.weight or 0.0) for mean, part in zip(sums, parts, strict=True)) / weight
    assert found == pytest.approx(expected, rel=1e-5)


def test_what_weighs_nothing_has_no_loss(shards: Path) -> None:
    config = settings(*EXACT, "loss.behavior_weights={view: 0, cart: 0.5}")
    task, (batch, *_) = task_of(config, shards), batches(config, shards)
    step = task.prepare(batch)
    came = batch.target_behavior[step.positions]
    assert set(came.tolist()) == {2, 3}
    assert step.weight == 0.5 * int((came == 2).sum()) + int((came == 3).sum())
    batch.target[batch.target_behavior != 1] = 0
    assert len(task.prepare(batch).positions) == 0


@pytest.mark.parametrize("kind", ["hstu", "llama"])
def test_steps_of_fixed_size_weigh_alike(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_input, "_SMALLEST", 4)
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    weights = "loss.behavior_weights={view: 0.25, buy: 2.0}"
    config = settings(*test_captured_step.EXACT, f"model.kind={kind}", weights)
    assert test_captured_step.check_alike(config, circle(tmp_path, ("view", "buy")), monkeypatch) > 2


def test_equal_weights_change_nothing(shards: Path) -> None:
    plain, other = settings(*EXACT), settings(*EXACT, "loss.behavior_weights={view: 2, cart: 2, buy: 2}")
    (batch, *_) = batches(plain, shards)
    tasks = [task_of(config, shards) for config in (plain, other)]
    one, two = (float(task.objective(task.prepare(batch)).detach()) for task in tasks)
    assert one == pytest.approx(two, rel=1e-6)


def test_targets_are_counted_where_they_have_loss(shards: Path) -> None:
    config = settings("loss.behavior_weights={view: 0}")
    loader = make_loader(config, MemorySource([load(shards)]), NAMES)
    counts, expected = loader.target_counts(np.array([False, False, True, True])), np.zeros(11, int)
    for batch in loader:
        counted = (batch.target > 0) & (batch.target_behavior != 1)
        expected += np.bincount(batch.target[counted].numpy(), minlength=11)
    loader.close()
    assert counts.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("overrides", "message", "fix"),
    [
        (["loss.behavior_weights={crat: 1}"], "no behavior 'crat'", "did you mean 'cart'"),
        (
            ["loss.behavior_weights={cart: 1}", "loss.loss_on=targets"],
            "'cart' has a weight, and is no target",
            "leave 'cart' out",
        ),
        (
            ["loss.behavior_weights={cart: 1}", "model.input_behaviors=target"],
            "'cart' has a weight, and is no input",
            "leave 'cart' out",
        ),
        (
            ["loss.behavior_weights={view: 0, cart: 0, buy: 0}"],
            "all behaviors weigh 0",
            "give one a weight above 0",
        ),
        (["loss.behavior_weights={buy: 0}", "loss.loss_on=targets"], "all behaviors weigh 0", "give one"),
    ],
)
def test_weights_that_mean_nothing_are_refused(
    overrides: list[str], message: str, fix: str, shards: Path
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build_task(settings(*overrides), open_shards(shards))
    assert caught.value.where == "loss.behavior_weights"
    assert fix in (caught.value.fix or "")


def test_no_weight_is_below_zero() -> None:
    with pytest.raises(UserError, match="greater than or equal to 0"):
        settings("loss.behavior_weights={buy: -1}")
