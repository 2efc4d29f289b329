"""Refitting: the settings of a run, trained anew on more events."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from behavior.errors import UsageError, UserError
from behavior.shards.folder import open_shards
from models.config import load_config
from models.data.loading import ShardSource
from models.data.loading.part import count_items, part_of
from models.evaluate_run import evaluate
from models.runs.run_folder import open_run
from models.training import refit, train
from models.training.clock import Clock
from tests.models.shards import USERS, WORLD, User, World, write_shards
from tests.models.training.training_runs import (
    ITEMS,
    Killed,
    Watcher,
    circle,
    records,
    same_weights,
    settings,
    weights,
)

# logQ takes counts of items, a cosine depends on where a training ends: both have to be the right ones.
CHOSEN = (
    "train.patience=1",
    "optimizer.schedule=cosine",
    "loss.negatives.popularity_power=0.5",
    "loss.negatives.logq=true",
)


def users(end: str) -> list[User]:
    """Items in a circle, with a last event that is no target; the training part ends where `end` says."""
    found = []
    for start in range(31):
        items = [2 + (start + step) % ITEMS for step in range(8 + start % 3)]
        valid, test = len(items) - 4, len(items) - 2  # an event between the two belongs to the history
        train_end = {"train": valid, "train+valid": test, "all": len(items)}[end]
        found.append(User(items, train_end, max(test, train_end)))
    return found


def shards(folder: Path, end: str = "train") -> Path:
    return write_shards(folder, users(end), World(num_items=ITEMS))


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose best validation is that of an epoch before the last."""
    folder = tmp_path_factory.mktemp("chosen")
    run = folder / "run"
    result = train(settings(*CHOSEN, "train.epochs=6"), shards(folder / "data"), run)
    assert result.best_epoch is not None
    assert result.best_epoch < 6
    return run


@pytest.mark.parametrize("part", ["train+valid", "all"])
def test_a_refit_is_a_training_on_shards_whose_training_part_ends_later(
    chosen: Path, tmp_path: Path, part: str
) -> None:
    """The oracle: shards that were cut elsewhere, trained without validation by the same schedule."""
    watcher, out = Watcher(), tmp_path / "refitted"
    result = refit(chosen, out, part=part, observer=watcher)  # type: ignore[arg-type]
    best = evaluate(chosen, device="cpu")["epoch"]
    oracle = settings(*CHOSEN[1:], "train.epochs=6", f"train.stop_after_epochs={best}")
    train(oracle, shards(tmp_path / "later", part), tmp_path / "oracle")
    assert (result.epochs, result.stopped_by, result.best_metrics) == (best, "epochs", {})
    assert same_weights(weights(out), weights(tmp_path / "oracle"))
    assert same_weights(weights(out, "best"), weights(out))
    losses = [line for line in records(tmp_path / "oracle") if line["kind"] == "train"]
    assert records(out) == losses
    assert watcher.validations == []
    assert watcher.start is not None
    assert (watcher.start.epochs, watcher.start.part, watcher.start.validated) == (best, part, None)


def test_the_run_folder_and_the_report_say_so(chosen: Path, tmp_path: Path) -> None:
    refit(chosen, tmp_path / "out")
    run = open_run(tmp_path / "out")
    assert run.refit() == chosen.absolute()
    assert run.settings()["loader"]["part"] == "train+valid"
    report = evaluate(run.path, device="cpu")
    assert report["trained_on"] == "train+valid"
    assert evaluate(chosen, device="cpu")["trained_on"] == "train"


def test_what_was_trained_on_is_not_evaluated(chosen: Path, tmp_path: Path) -> None:
    refit(chosen, tmp_path / "served", part="all")
    refit(chosen, tmp_path / "refitted")
    for run, split in ((tmp_path / "served", "test"), (tmp_path / "refitted", "valid")):
        with pytest.raises(UserError, match="what it has seen"):
            evaluate(run, split, device="cpu")  # type: ignore[arg-type]


def test_runs_of_two_protocols_are_not_compared(chosen: Path, tmp_path: Path) -> None:
    refit(chosen, tmp_path / "refitted")
    with pytest.raises(UserError, match="not the models"):
        evaluate(tmp_path / "refitted", device="cpu", against=chosen)
    report = evaluate(tmp_path / "refitted", device="cpu", against=tmp_path / "refitted")
    assert report["comparison"]["metrics"]["ndcg@10"]["difference"] == 0.0


def test_a_refit_that_was_ended_goes_on(chosen: Path, tmp_path: Path) -> None:
    refit(chosen, tmp_path / "whole")
    with pytest.raises(Killed):
        refit(chosen, tmp_path / "ended", observer=Watcher(at_report=1))
    refit(chosen, tmp_path / "ended", resume=True)
    assert same_weights(weights(tmp_path / "ended"), weights(tmp_path / "whole"))
    assert open_run(tmp_path / "ended").refit() == chosen.absolute()


def test_a_refit_goes_on_to_where_validation_chose(chosen: Path, tmp_path: Path) -> None:
    refit(chosen, tmp_path / "run")
    saved = open_run(tmp_path / "run")
    for change in ("train.epochs=9", "train.stop_after_epochs=9"):
        config = load_config(saved.path / "config.yaml", [change])
        with pytest.raises(UserError, match=change.split("=")[0]):
            train(config, saved.data, saved.path, resume=True)


def test_a_seed_may_change_and_what_was_chosen_may_not(chosen: Path, tmp_path: Path) -> None:
    refit(chosen, tmp_path / "seed", settings=["train.seed=1"])
    assert open_run(tmp_path / "seed").settings()["train"]["seed"] == 1
    for name in ("model.dim=16", "train.epochs=9", "train.stop_after_epochs=2", "loader.part=all"):
        with pytest.raises(UsageError, match="validation chose"):
            refit(chosen, tmp_path / "other", settings=[name])
    assert not (tmp_path / "other").exists()


def test_a_refit_of_a_refit_and_of_another_data_set(chosen: Path, tmp_path: Path) -> None:
    refit(chosen, tmp_path / "refitted")
    with pytest.raises(UserError, match="refit itself") as caught:
        refit(tmp_path / "refitted", tmp_path / "again")
    assert str(chosen) in (caught.value.fix or "")
    with pytest.raises(UserError, match="another data set"):
        refit(chosen, tmp_path / "again", data=circle(tmp_path / "other"))


def test_a_run_without_a_whole_epoch_has_nothing_to_refit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(Clock, "minutes", lambda clock: next(ticks))  # a minute passes whenever it is asked
    result = train(settings("train.max_minutes=2"), shards(tmp_path / "data"), tmp_path / "run")
    assert (result.stopped_by, result.epochs) == ("max_minutes", 0)
    with pytest.raises(UserError, match="first epoch"):
        refit(tmp_path / "run", tmp_path / "out")


def test_items_are_counted_where_they_are_trained_on(tmp_path: Path) -> None:
    source = ShardSource(open_shards(write_shards(tmp_path, USERS, WORLD)))
    for part in ("train", "train+valid", "all"):
        expected = np.zeros(8, int)
        for user in USERS:
            end = {"train": user.train_end, "train+valid": user.valid_end, "all": len(user.item)}[part]
            for item in list(user.item)[:end]:
                expected[item] += item >= 2  # 1 is an unknown item
        assert count_items(part_of(source, part)).tolist() == expected.tolist()  # type: ignore[arg-type]
