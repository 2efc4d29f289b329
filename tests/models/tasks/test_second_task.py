"""A task that nothing in the package knows trains, resumes and is evaluated like any other."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import models
from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.attention import dispatch
from models.build import build_task
from models.config import RunConfig, load_config
from models.data.batch import PackedBatch
from models.data.columns import Column, Columns
from models.data.origins import Own
from models.distributed.processes import SINGLE, Processes
from models.evaluate_run import judge_run
from models.evaluation.targets import Split
from models.inputs.layouts import LAYOUTS
from models.runs.checkpoint import load_checkpoint
from models.serving.score import History
from models.tasks import register_task, registry
from models.tasks.checks import check_metrics
from models.tasks.task import Task
from models.training import setup, static_input, train
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.inputs.layouts import ItemsAndBehaviors
from tests.models.shards import User, World, write_shards
from tests.models.tasks import next_behavior
from tests.models.tasks.next_behavior import NEXT_BEHAVIOR, BehaviorEvaluator, BehaviorModel
from tests.models.training.test_training import STILL
from tests.models.training.training_runs import (
    SETTINGS,
    Killed,
    Watcher,
    records,
    same_weights,
    weights,
)
from tests.source import Source

WORLD = World(num_items=9, behaviors=("view", "cart", "buy"), targets=("buy",))
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))
    register_task(NEXT_BEHAVIOR)


def users() -> list[User]:
    """View, cart, buy, view, cart, ...: the next behavior follows from the last one."""
    found = []
    for start in range(30):
        length = 8 + start % 4
        items = [2 + (start + 2 * step) % 9 for step in range(length)]
        behaviors = [1 + (start + step) % 3 for step in range(length)]
        found.append(User(items, length - 2, length - 1, behavior=behaviors))
    return found


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data"), users(), WORLD)


def settings(*overrides: str, select_by: str = "log_loss") -> RunConfig:
    own = ["task.kind=next_behavior", "embedding.behaviors=add", f"train.select_by={select_by}"]
    return load_config("default", [*SETTINGS, *own, *overrides])


FAST = ("train.epochs=15", "optimizer.learning_rate=0.02", "model.dropout=0")


@pytest.mark.parametrize(("select_by", "choose"), [("log_loss", min), ("accuracy", max)])
def test_it_learns_and_the_best_checkpoint_is_that_of_its_own_metric(
    shards: Path, tmp_path: Path, select_by: str, choose: type[min]
) -> None:
    watcher = Watcher()
    config = settings(*FAST, select_by=select_by)
    result = train(config, shards, tmp_path / "run", observer=watcher)
    values = [validation.metrics[select_by] for validation in watcher.validations]
    assert result.best_epoch == values.index(choose(values)) + 1
    assert result.best_metrics["accuracy"] > 0.9
    assert watcher.start is not None
    assert (watcher.start.time, watcher.start.exclude_seen) == ("known", False)
    assert watcher.start.protocol["first_events"]
    assert (tmp_path / "run" / "curves" / "metrics.png").exists()


def test_it_stops_early_where_what_is_to_fall_no_longer_does(shards: Path, tmp_path: Path) -> None:
    config = settings(*STILL, "train.patience=2", "model.dropout=0")
    watcher = Watcher()
    result = train(config, shards, tmp_path / "run", observer=watcher)
    assert (result.stopped_by, result.epochs) == ("patience", 3)
    assert [validation.is_best for validation in watcher.validations] == [True, False, False]


@pytest.mark.parametrize("report", [1, 4])
def test_killed_it_goes_on_to_the_same_losses(shards: Path, tmp_path: Path, report: int) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    config = settings("train.accumulate=2", "optimizer.clip_norm=1")
    train(config, shards, whole)
    with pytest.raises(Killed):
        train(config, shards, broken, observer=Watcher(at_report=report))
    train(config, shards, broken, resume=True)
    assert records(broken) == records(whole)
    assert same_weights(weights(broken), weights(whole))
    assert same_weights(weights(broken, "best"), weights(whole, "best"))


def test_steps_of_fixed_sizes_have_the_same_losses(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are captured as CUDA graphs, taken here without the capture."""
    exact = ("model.dropout=0", "optimizer.clip_norm=1")
    train(settings(*exact), shards, tmp_path / "plain")
    monkeypatch.setattr(static_input, "_SMALLEST", 4)
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    monkeypatch.setattr(setup, "captures_steps", lambda config, *_: config.train.cuda_graphs is True)
    monkeypatch.setattr(setup, "CudaGraphs", lambda *_: lambda work: work)
    train(settings(*exact, "train.cuda_graphs=true"), shards, tmp_path / "padded")
    for mine, theirs in zip(records(tmp_path / "padded"), records(tmp_path / "plain"), strict=True):
        for name in ("step", "loss", "gradient_norm", "log_loss", "accuracy"):
            assert mine.get(name, 0.0) == pytest.approx(theirs.get(name, 0.0), rel=1e-4)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_it_is_evaluated_by_the_same_door_as_every_run(shards: Path, tmp_path: Path, split: str) -> None:
    """Against the model asked for one user after the other."""
    run = tmp_path / "run"
    train(settings(), shards, run)
    found = models.evaluate(run, split, device="cpu", batch_size=4)  # type: ignore[arg-type]
    loaded = models.load_model(run, device="cpu")
    module = loaded.module
    assert isinstance(module, BehaviorModel)
    losses, hits = [], []
    for user in users():
        at = user.train_end if split == "valid" else user.valid_end
        window = slice(max(0, at - 8), at)
        times = [60 * step for step in range(len(user.item))]
        batch = PackedBatch.from_lists(
            [user.item[window]],
            behaviors=[user.behavior[window]],
            timestamps=[times[window]],
            query_times=[[*times[window][1:], times[at]]],
        )
        with torch.no_grad():
            logits = module(batch)[-1].double()
        came = user.behavior[at] - 1
        losses.append(float(F.cross_entropy(logits, torch.tensor(came))))
        hits.append(float(logits.argmax() == came))
    assert found["log_loss"] == pytest.approx(math.fsum(losses) / len(losses), rel=1e-5)
    assert found["accuracy"] == pytest.approx(sum(hits) / len(hits))
    assert (found["targets"], found["checkpoint"], found["model"]) == (len(users()), "best", "hstu")
    if split == "valid":
        best = load_checkpoint(run / "checkpoints" / "best.safetensors").progress["metrics"]
        assert found["log_loss"] == pytest.approx(best["log_loss"])
    assert judge_run(loaded, split, batch_size=4).report() == found  # type: ignore[arg-type]


def test_what_only_rankings_have_is_refused(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(settings("train.epochs=1"), shards, run)
    with pytest.raises(UserError, match="ranks no items"):
        models.evaluate(run, device="cpu", per_user=tmp_path / "ranks.parquet")
    with pytest.raises(UserError, match="ranks no items"):
        models.evaluate(run, device="cpu", against=run)
    with pytest.raises(UserError, match="'next_behavior' scores no items"):
        models.load_model(run, device="cpu").score([History([2], timestamps=[0])])


def test_processes_that_a_training_starts_would_not_know_it(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="do not know task 'next_behavior'") as caught:
        train(settings("train.devices=2"), shards, tmp_path / "run")
    assert "torchrun" in (caught.value.fix or "")
    assert not (tmp_path / "run").exists()


def test_a_metric_of_another_task_is_refused() -> None:
    with pytest.raises(UserError, match=r"select_by is 'ndcg@10'.* accuracy, log_loss"):
        settings(select_by="ndcg@10")


def test_an_unknown_task_names_the_nearest_and_says_how_to_register(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(settings("train.epochs=1"), shards, run)
    del registry._KINDS["next_behavior"]
    with pytest.raises(UserError, match=r"no task 'retreival'(\n.*)*did you mean 'retrieval'"):
        load_config("default", ["task.kind=retreival"])
    with pytest.raises(UserError, match=r"(?s)no task 'next_behavior'.*register_task.*models\.evaluate"):
        models.load_model(run, device="cpu")


@pytest.mark.parametrize("name", ["models.training", "models.evaluate_run", "models.build", "models.runs"])
def test_what_works_with_any_task_names_none(name: str) -> None:
    imports = Source(ROOT, ("models",)).imports
    named = [
        (importer, imported)
        for importer, imported in imports
        if (importer == name or importer.startswith(f"{name}."))
        and imported.startswith("models.tasks.retrieval")
    ]
    assert not named


def test_it_follows_all_settings_of_input_and_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column and two tokens an event of a layout, positions, scale, and data without time."""
    when = Column("when", origin=Own("timestamp"))

    class WithColumn(ItemsAndBehaviors):
        columns = Columns.merged(ItemsAndBehaviors.columns, [when])

    monkeypatch.setitem(LAYOUTS, "with_column", WithColumn)
    folder = open_shards(write_shards(tmp_path / "data", users(), WORLD))

    def task_of(kind: str, *overrides: str) -> Task:
        own = ("embedding.layout=with_column", "embedding.behaviors=none", f"model.kind={kind}")
        return build_task(settings(*own, *overrides), folder)

    task, longest = task_of("hstu"), settings().model.max_length
    embedding, backbone = task.model.embedding, task.model.backbone
    assert "when" in task.columns
    assert task.token_lengths(PackedBatch.from_lists([[2, 3, 4], [5]])) == (2 + 2 * 3, 2 + 2 * 1)
    assert embedding.scale == settings().model.dim ** 0.5
    assert len(embedding.position) == len(backbone.blocks[0].bias.position) == 2 + 2 * longest
    assert task_of("gpt").model.embedding.scale == 1.0
    assert task_of("llama").model.embedding.position is None
    folder = open_shards(write_shards(tmp_path / "timeless", users(), replace(WORLD, timestamp_unit="none")))
    with pytest.raises(UserError, match="needs timestamps"):
        task_of("hstu")
    task_of("hstu", "model.bias=position")


class Wrong(BehaviorEvaluator):
    """Says what it is told to."""

    said: ClassVar[Any] = {}

    def evaluate(self, split: Split, processes: Processes = SINGLE) -> dict[str, Any]:
        return self.said


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"acc": 0.5, "log_loss": 1.0}, "names accuracy, log_loss, .* gave acc, log_loss, without accuracy"),
        ({"acc": 0.5, "loss": 1.0}, "gave acc, loss, without accuracy, log_loss: use the same names"),
        ({"accuracy": torch.tensor(0.5), "log_loss": 1.0}, "'accuracy' must be a float, and is Tensor"),
        ({"accuracy": np.float32(0.5), "log_loss": 1.0}, "'accuracy' must be a float, and is float32"),
        ({"accuracy": 1.0, "log_loss": 1.0, "of": np.ones(2)}, "'of' is ndarray, and must be a plain value"),
        (None, "must give a dict of metrics, and gave NoneType"),
    ],
)
def test_metrics_that_are_none_are_told_at_the_first_validation(
    said: Any, message: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wrong, "said", said)
    monkeypatch.setattr(next_behavior, "BehaviorEvaluator", Wrong)
    with pytest.raises(TypeError, match=message):
        train(settings("train.epochs=1"), shards, tmp_path / "run")


def test_nobody_to_evaluate_is_no_mistake() -> None:
    metrics = NEXT_BEHAVIOR.metrics(settings().evaluation)
    check_metrics({"targets": 0, "share": 1.0}, metrics, {"share": 1.0})
    check_metrics({"accuracy": math.nan, "log_loss": 1}, metrics, {})


@pytest.mark.parametrize("name", ["config", "protocol"])
def test_an_evaluator_without_its_attributes_is_an_error_before_the_first_step(
    name: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bare(BehaviorEvaluator):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            delattr(self, name)

    train(settings("train.epochs=1"), shards, tmp_path / "good")
    monkeypatch.setattr(next_behavior, "BehaviorEvaluator", Bare)
    watcher = Watcher()
    with pytest.raises(TypeError, match=rf"Bare\.{name} must be of the type"):
        train(settings("train.epochs=1"), shards, tmp_path / "run", observer=watcher)
    assert watcher.start is None
    with pytest.raises(TypeError, match=rf"Bare\.{name} must be of the type"):
        models.evaluate(tmp_path / "good", device="cpu")


@pytest.mark.parametrize("result", [torch.ones(3), torch.tensor(1), 1.0])
def test_a_loss_that_is_no_scalar_is_an_error(
    result: Any, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(next_behavior.BehaviorObjective, "forward", lambda *_: result)
    with pytest.raises(TypeError, match=r"objective must give a scalar.* and gave"):
        train(settings("train.epochs=1"), shards, tmp_path / "run")
