"""Jump logits in runs: ranking, refits, resumed trainings, later versions of the data, recorded steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

import models
from behavior.shards.folder import open_shards
from models.data.batch import PackedBatch
from models.data.loading import ShardSource
from models.runs.checkpoint import load_checkpoint
from models.runs.run_folder import open_run
from models.serving.load import TrainedModel, load_model
from models.serving.score import History
from models.tasks.retrieval import RetrievalModel
from models.tasks.task import Task
from models.training import train
from tests.behavior.cooccurrence.oracle import count_by_hand
from tests.models.history.jumps.jump_oracle import Table, votes_by_hand
from tests.models.history.jumps.test_jumps import events_of, parameters_of
from tests.models.shards import User, World, write_shards
from tests.models.training import test_captured_step
from tests.models.training.training_runs import Killed, Watcher, records, same_weights, settings, weights

ITEMS, FIRST = 9, 2
JUMPS = (
    "loss.jumps=learned",
    "loss.jump_training=joint",
    "loss.jump_neighbors=3",
    "loss.jump_events=3",
    "loss.jump_window=4",
    "loss.jump_folds=3",
    "loss.jump_dim=4",
)


def users() -> list[User]:
    """Items that follow each other in steps of two sizes, by two behaviors."""
    found = []
    for start in range(31):
        items = [FIRST + (start + step * (1 + start % 2)) % ITEMS for step in range(7 + start % 3)]
        behavior = [1 + (start + step) % 2 for step in range(len(items))]
        found.append(User(items, len(items) - 3, len(items) - 2, behavior=behavior))
    return found


def shards(folder: Path, num_items: int = ITEMS) -> Path:
    behaviors = ("view", "buy")
    return write_shards(folder, users(), World(num_items=num_items, behaviors=behaviors, targets=behaviors))


def table_by_hand(ends: Callable[[User], int]) -> Table:
    rows = [[(item - FIRST, 1) for item in user.item[: ends(user)]] for user in users()]
    found = count_by_hand(
        rows, window=4, backward=Fraction(1, 2), neighbors=3, stochastic=True, repeats=False
    )
    return {(item + FIRST, other + FIRST): share for (item, other), share in found.items()}


def table_of(model: RetrievalModel) -> Table:
    assert model.jumps is not None
    followers, shares = model.jumps.followers, model.jumps.log_share.exp()
    return {
        (FIRST + item, FIRST + int(followers[item, place])): float(shares[item, place])
        for item, place in (followers >= 0).nonzero().tolist()
    }


def module_of(loaded: TrainedModel) -> RetrievalModel:
    assert isinstance(loaded.module, RetrievalModel)
    return loaded.module


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jumps")
    config = settings(*JUMPS, "loss.history=learned", "loss.history_dim=4")
    train(config, shards(folder / "data"), folder / "run")
    return folder / "run"


def test_ranking_is_by_the_softmax_of_everything(trained: Path) -> None:
    """Products of vectors, history logits and votes, added up item by item for all items."""
    loaded = load_model(trained, device="cpu")
    model = module_of(loaded)
    assert model.jumps is not None
    assert model.history is not None
    assert table_of(model) == pytest.approx(table_by_hand(lambda user: user.train_end), rel=1e-6)
    items, kinds, times = [4, 1, 5, 6, 4], [1, 2, 1, 1, 2], [0, 60, 90, 100, 2000]
    found = loaded.score([History(items, kinds, times, next_behavior=2, next_timestamp=2600)])[0]
    batch = PackedBatch.from_lists(
        [items],
        behaviors=[kinds],
        timestamps=[times],
        query_times=[[*times[1:], 2600]],
    )
    batch.target_behavior[-1] = 2
    with torch.no_grad():
        outputs = model.outputs(batch)
        scores = model.queries(outputs)[-1] @ model.item_vectors().T / model.temperature
        of = parameters_of(model.jumps, outputs)
        votes = votes_by_hand(of, events_of(batch, 0), 4, 3, table_of(model), FIRST)
        copies = model.history.last_logits(outputs, batch)
    masses = scores.double().exp()
    for item, mass in votes.items():
        masses[item - FIRST] += mass
    for place, item in enumerate(items):
        if item >= FIRST:
            masses[item - FIRST] += copies[place].double().exp()
    assert len(votes) > 2
    torch.testing.assert_close(found.double(), masses.log(), rtol=1e-4, atol=1e-5)
    report = models.evaluate(trained, split="test", device="cpu")
    assert report["users"] == len(users())


def test_a_refit_counts_what_it_trains_on(trained: Path, tmp_path: Path) -> None:
    models.refit(trained, tmp_path / "refit")
    model = module_of(load_model(tmp_path / "refit", device="cpu"))
    assert table_of(model) == pytest.approx(table_by_hand(lambda user: user.valid_end), rel=1e-6)


def test_a_run_that_goes_on_counts_its_tables_anew(tmp_path: Path) -> None:
    data = shards(tmp_path / "data")
    config = settings(*JUMPS, "loss.jump_dropout=0.2")
    train(config, data, tmp_path / "whole")
    with pytest.raises(Killed):
        train(config, data, tmp_path / "killed", observer=Watcher(at_report=3))
    train(config, data, tmp_path / "killed", resume=True)
    assert records(tmp_path / "killed") == records(tmp_path / "whole")
    assert same_weights(weights(tmp_path / "killed"), weights(tmp_path / "whole"))


def test_items_that_came_later_are_followed_by_nothing_and_follow_nothing(
    trained: Path, tmp_path: Path
) -> None:
    old, new = module_of(load_model(trained, device="cpu")), shards(tmp_path / "more", ITEMS + 2)
    manifest = new / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": 2}))
    later = load_model(trained, data=str(new), device="cpu")
    assert later.new_items == 2
    assert table_of(module_of(later)) == table_of(old)


def test_weights_of_another_run_come_without_its_table(trained: Path, tmp_path: Path) -> None:
    more = [*users(), *(User([2, 5, 2, 5, 2, 3], 4, 5, behavior=[1] * 6) for _ in range(40))]
    behaviors = ("view", "buy")
    world = World(num_items=ITEMS, behaviors=behaviors, targets=behaviors)
    data = write_shards(tmp_path / "more", more, world)
    config = settings(*JUMPS, "loss.history=learned", "loss.history_dim=4", "train.epochs=1")
    train(config, data, tmp_path / "run", init=trained)
    before, after = (module_of(load_model(run, device="cpu")) for run in (trained, tmp_path / "run"))
    assert table_of(after) != table_of(before)
    assert table_of(after)[2, 5] > 0.6


def test_the_checkpoint_has_the_table_of_everybody_alone(trained: Path) -> None:
    saved = load_checkpoint(open_run(trained).last).model
    tables = {name: list(value.shape) for name, value in saved.items() if value.shape[1:] == (3,)}
    assert tables == {"jumps.followers": [ITEMS, 3], "jumps.log_share": [ITEMS, 3]}


@pytest.mark.usefixtures("reading", "small_sizes")
def test_padding_changes_no_loss_and_no_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = test_captured_step.task_of

    def counted(config: Any, data: Path) -> Task:
        task = make(config, data)
        assert isinstance(task.model, RetrievalModel)
        assert task.model.jumps is not None
        task.model.jumps.count(ShardSource(open_shards(data)))
        return task

    monkeypatch.setattr(test_captured_step, "task_of", counted)
    config = settings(*test_captured_step.EXACT, *JUMPS)
    assert test_captured_step.check_alike(config, shards(tmp_path), monkeypatch) > 2


reading, small_sizes = test_captured_step.reading, test_captured_step.small_sizes
