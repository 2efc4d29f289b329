"""The training loop: it learns, stops when told, and goes on after being killed as if it never had been."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from behavior.config import parse_config
from behavior.errors import UserError
from models.config import RunConfig
from models.runs.checkpoint import load_checkpoint, save_checkpoint
from models.runs.run_folder import open_run
from models.training import clock, train
from models.training.observer import StepProgress
from tests.models.shards import World, leave_one_out, write_shards
from tests.models.training.training_runs import (
    ITEMS,
    STEPS_A_EPOCH,
    Killed,
    Watcher,
    circle,
    records,
    same_weights,
    settings,
    weights,
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return circle(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train(settings(), shards, run)
    return run


@pytest.mark.parametrize("kind", ["hstu", "sasrec"])
@pytest.mark.parametrize(
    "loss", ["kind=full_softmax", "negatives.sharing=batch", "negatives.sharing=position"]
)
def test_it_learns_a_circle(shards: Path, tmp_path: Path, kind: str, loss: str) -> None:
    config = settings(
        f"model.kind={kind}",
        f"loss.{loss}",
        "train.epochs=15",
        "optimizer.learning_rate=0.02",
        "model.dropout=0",
        # No longer than what is trained on, or validation would meet a position that nothing has taught.
        "model.max_length=7",
    )
    result = train(config, shards, tmp_path / "run")
    assert result.best_metrics["hr@1"] > 0.9


def test_it_learns_in_mixed_precision(shards: Path, tmp_path: Path) -> None:
    config = settings(
        "train.precision=bf16-mixed", "train.epochs=15", "optimizer.learning_rate=0.02", "model.dropout=0"
    )
    result = train(config, shards, tmp_path / "run")
    assert result.best_metrics["hr@1"] > 0.9
    assert {tensor.dtype for tensor in weights(tmp_path / "run").values()} == {torch.float32}


def test_the_run_folder_is_complete(whole: Path, shards: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        "run.json", "config.yaml", "metrics.jsonl", "tensorboard", "checkpoints", "curves", "dataset",
        "summary.json",
    }  # fmt: skip
    assert {path.name for path in (whole / "checkpoints").iterdir()} == {
        "last.safetensors",
        "best.safetensors",
    }
    assert {path.name for path in (whole / "curves").iterdir()} == {"loss.png", "metrics.png"}
    assert (
        parse_config(RunConfig, yaml.safe_load((whole / "config.yaml").read_text()), where="") == settings()
    )
    run = open_run(whole)
    assert parse_config(RunConfig, run.settings(), where="") == settings()
    assert run.data == str(shards)


def test_every_step_is_reported_once(whole: Path) -> None:
    """Every two steps, at checkpoints (every three) and at epoch ends (every four)."""
    assert [line["step"] for line in records(whole) if line["kind"] == "train"] == [2, 3, 4, 6, 8, 9, 10, 12]
    assert [line["step"] for line in records(whole) if line["kind"] == "valid"] == [4, 8, 12]


def test_the_observer_is_told_what_happens(shards: Path, tmp_path: Path) -> None:
    watcher = Watcher()
    result = train(settings(), shards, tmp_path / "run", observer=watcher)
    assert watcher.start is not None
    assert (watcher.start.sequences, watcher.start.skipped_sequences) == (31, 1)
    assert (watcher.start.steps_per_epoch, watcher.start.epochs, watcher.start.step) == (STEPS_A_EPOCH, 3, 0)
    assert (watcher.start.time, watcher.start.exclude_seen) == ("known", True)
    assert {report.total_steps for report in watcher.reports} == {3 * STEPS_A_EPOCH}
    assert [validation.epoch for validation in watcher.validations] == [1, 2, 3]
    assert watcher.result == result
    best = max(watcher.validations, key=lambda v: v.metrics["ndcg@10"])
    assert result.best_epoch == best.epoch
    assert result.best_metrics == best.metrics
    assert (result.stopped_by, result.epochs, result.step) == ("epochs", 3, 12)


@pytest.mark.parametrize("report", [1, 2, 3, 4, 5, 6, 8])
def test_killed_at_any_report_it_goes_on_to_the_same_losses(
    shards: Path, whole: Path, tmp_path: Path, report: int
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Killed):
        train(settings(), shards, run, observer=Watcher(at_report=report))
    (run / "metrics.jsonl").open("a").write('{"kind": "train", "st')
    (run / "checkpoints").mkdir(exist_ok=True)
    (run / "checkpoints" / "last.safetensors.tmp").write_bytes(b"half a checkpoint")
    train(settings(), shards, run, resume=True)
    assert records(run) == records(whole)
    assert same_weights(weights(run), weights(whole))
    assert same_weights(weights(run, "best"), weights(whole, "best"))


def test_killed_again_and_again(shards: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for watcher in (
        Watcher(at_validation=1),
        Watcher(at_report=2),
        Watcher(at_validation=1),
        Watcher(at_report=3),
    ):
        with pytest.raises(Killed):
            train(settings(), shards, run, resume="auto", observer=watcher)
    train(settings(), shards, run, resume=True)
    assert records(run) == records(whole)
    assert same_weights(weights(run), weights(whole))


def test_killed_before_its_folder_was_complete_it_begins(shards: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json.tmp").write_text("{}")
    (run / "config.yaml.tmp").write_text("half a conf")
    train(settings(), shards, run)
    assert records(run) == records(whole)


def test_a_finished_run_resumes_to_nothing_and_to_more_epochs(
    shards: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(settings("train.epochs=2"), shards, run)
    before = weights(run)
    result = train(settings("train.epochs=2"), shards, run, resume=True)
    assert (result.step, result.stopped_by, result.loss) == (8, "epochs", None)
    assert same_weights(weights(run), before)
    train(settings("train.epochs=3"), shards, run, resume=True)
    assert records(run) == records(whole)
    assert same_weights(weights(run), weights(whole))


EVERYTHING = (
    "train.accumulate=2",
    "train.patience=9",
    "optimizer.schedule=linear",
    "optimizer.warmup_steps=5",
    "optimizer.clip_norm=0.5",
    "optimizer.weight_decay=0.1",
    "optimizer.decay_on=linear",
    "optimizer.item_table=rowwise_adagrad",
    "optimizer.item_learning_rate=0.05",
)


@pytest.mark.parametrize("report", [1, 3, 5])
def test_killed_with_everything_on_it_goes_on_to_the_same_losses(
    shards: Path, tmp_path: Path, report: int
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(settings(*EVERYTHING), shards, whole)
    with pytest.raises(Killed):
        train(settings(*EVERYTHING), shards, run, observer=Watcher(at_report=report))
    train(settings(*EVERYTHING), shards, run, resume=True)
    assert records(run) == records(whole)
    assert same_weights(weights(run), weights(whole))


# A rate so small that no ranking changes: the first validation is the best one.
STILL = ("optimizer.learning_rate=1e-12", "train.epochs=9")


def test_it_stops_when_validations_no_longer_improve(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    watcher = Watcher()
    result = train(settings(*STILL, "train.patience=2"), shards, run, observer=watcher)
    assert (result.stopped_by, result.epochs, result.best_epoch) == ("patience", 3, 1)
    assert [validation.is_best for validation in watcher.validations] == [True, False, False]
    again = train(settings(*STILL, "train.patience=2"), shards, run, resume=True)
    assert (again.stopped_by, again.epochs, again.step) == ("patience", 3, result.step)
    more = train(settings(*STILL, "train.patience=4"), shards, run, resume=True)
    assert (more.stopped_by, more.epochs, more.best_epoch) == ("patience", 5, 1)


def test_interrupted_it_is_as_patient_as_uninterrupted(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = settings(*STILL, "train.patience=2")
    with pytest.raises(Killed):
        train(config, shards, run, observer=Watcher(at_validation=3))
    result = train(config, shards, run, resume=True)
    assert (result.stopped_by, result.epochs) == ("patience", 3)


def test_a_checkpoint_from_before_a_setting_goes_on_with_its_default(
    shards: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train(settings("train.epochs=2"), shards, run)
    path = run / "checkpoints" / "last.safetensors"
    saved = load_checkpoint(path)
    del saved.config["train"]["compile"], saved.config["optimizer"]["item_table"], saved.config["task"]
    del saved.progress["without_improvement"]
    save_checkpoint(path, saved)
    train(settings(), shards, run, resume=True)
    assert records(run) == records(whole)
    with pytest.raises(UserError, match=r"optimizer\.item_table was 'adamw' and is now 'rowwise_adagrad'"):
        train(settings("optimizer.item_table=rowwise_adagrad"), shards, run, resume=True)


def test_the_gradient_norm_is_logged_where_gradients_are_clipped(shards: Path, tmp_path: Path) -> None:
    train(settings("optimizer.clip_norm=0.001", "train.epochs=1"), shards, tmp_path / "run")
    norms = [line["gradient_norm"] for line in records(tmp_path / "run") if line["kind"] == "train"]
    assert all(norm > 0.001 for norm in norms)


def test_progress_tells_what_is_left(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute a report: steps 2, 3, 4 are reported after 0, 1 and 2 minutes, and 10, 9, 8 are left."""
    watcher = Slow(monkeypatch)
    train(settings("train.batch_sequences=8"), shards, tmp_path / "run", observer=watcher)
    left = [report.minutes_left for report in watcher.reports[:3]]
    assert left == pytest.approx([0.0, 1 / 3 * 9, 2 / 4 * 8])
    assert {report.mfu for report in watcher.reports} == {None}  # nobody knows what this CPU could do


class Slow(Watcher):
    """Lets a minute pass at every report."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.seconds = 0.0
        monkeypatch.setattr(clock, "monotonic", lambda: self.seconds)

    def stepped(self, progress: StepProgress) -> None:
        super().stepped(progress)
        self.seconds += 60.0


def test_time_runs_out_in_mid_epoch_and_more_time_goes_on(
    shards: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    watcher = Slow(monkeypatch)
    result = train(settings("train.max_minutes=3.5"), shards, run, observer=watcher)
    # The fourth report, after steps 2, 3 and 4, is that of step 6.
    assert (result.step, result.stopped_by, result.minutes, result.epochs) == (6, "max_minutes", 4.0, 1)
    assert [validation.step for validation in watcher.validations] == [4, 6]
    again = train(settings("train.max_minutes=3.5"), shards, run, resume=True, observer=Slow(monkeypatch))
    assert (again.step, again.stopped_by, again.minutes) == (6, "max_minutes", 4.0)
    train(settings("train.max_minutes=100"), shards, run, resume=True, observer=Slow(monkeypatch))
    assert same_weights(weights(run), weights(whole))


def test_a_folder_with_a_run_is_not_trained_over(whole: Path, shards: Path) -> None:
    before = records(whole)
    with pytest.raises(UserError, match="already holds a training run"):
        train(settings(), shards, whole)
    assert records(whole) == before


def test_a_folder_with_something_else_is_left_alone(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(UserError, match="not a training run"):
            train(settings(), shards, tmp_path, resume=resume)
    with pytest.raises(UserError, match="is a file"):
        train(settings(), shards, tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.kind=sasrec", "model.kind was 'hstu' and is now 'sasrec'"),
        ("model.dim=16", "model.dim was 8 and is now 16"),
        ("train.seed=1", "train.seed was 0 and is now 1"),
    ],
)
def test_another_architecture_is_not_resumed(shards: Path, whole: Path, change: str, message: str) -> None:
    before = (whole / "config.yaml").read_text()
    with pytest.raises(UserError, match=message):
        train(settings(change), shards, whole, resume=True)
    assert (whole / "config.yaml").read_text() == before


def test_other_data_is_not_resumed(whole: Path, tmp_path: Path) -> None:
    rows = [[2, 3, 4, 5, 6]] * 3
    other = write_shards(tmp_path / "other", leave_one_out(*rows), World(num_items=ITEMS))
    with pytest.raises(UserError, match="data set digest was"):
        train(settings(), other, whole, resume=True)


def test_data_without_time_needs_no_time_bias(tmp_path: Path) -> None:
    rows = [[2 + (start + step) % ITEMS for step in range(6)] for start in range(9)]
    world = World(num_items=ITEMS, timestamp_unit="none")
    shards = write_shards(tmp_path / "data", leave_one_out(*rows), world)
    with pytest.raises(UserError, match="needs timestamps"):
        train(settings(), shards, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()
    result = train(settings("model.bias=position", "train.epochs=1"), shards, tmp_path / "run")
    assert result.best_metrics["time"] == "none"


def test_nothing_to_learn_from_is_an_error(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "data", leave_one_out([2, 3, 4]), World(num_items=3))
    with pytest.raises(UserError, match="nothing to learn from"):
        train(settings(), shards, tmp_path / "run")


def test_the_run_marker_names_the_data(whole: Path, shards: Path) -> None:
    about = json.loads((whole / "run.json").read_text())
    assert about["data"] == str(shards.resolve())
    assert about["dataset"]["item_ids"] == ITEMS + 2


def test_several_threads_change_nothing_from_run_to_run(tmp_path: Path) -> None:
    """Large enough a batch that torch splits its work, and many events a position, whose gradients add up."""
    rows = [[2 + (start + step) % ITEMS for step in range(60)] for start in range(40)]
    shards = write_shards(tmp_path / "data", leave_one_out(*rows), World(num_items=ITEMS))
    config = settings("model.dim=64", "model.max_length=60", "train.epochs=1", "train.batch_sequences=40")
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for name in ("a", "b", "c"):
            train(config, shards, tmp_path / name)
    finally:
        torch.set_num_threads(threads)
    assert same_weights(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert same_weights(weights(tmp_path / "a"), weights(tmp_path / "c"))
    assert not torch.are_deterministic_algorithms_enabled()
