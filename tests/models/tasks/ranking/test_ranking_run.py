"""A run of the ranking task: trained, resumed, captured, evaluated; against the model asked for one row."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import models
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.attention import dispatch
from models.build import sequences_of
from models.data.windows import Windows, gather
from models.evaluate_run import judge_run
from models.evaluation.actions.labels import parse_labels
from models.evaluation.actions.predictions import write_predictions
from models.evaluation.actions.report import ActionEvaluation
from models.evaluation.actions.rows import labelled_rows
from models.tasks.ranking.passes import Passes
from models.tasks.ranking.task import RankingTask
from models.training import setup, static_input, train
from tests.models.attention.reading_kernel import KERNELS_AND_READING
from tests.models.tasks.ranking.world import N, events_of, settings, task_of, write
from tests.models.training.training_runs import Watcher, records, same_weights, weights

USERS = events_of(24, seed=5)
LEAVE_LAST_OUT = {"kind": "leave_one_out"}
FEATURES = ("embedding.event_features=[device]", "task.known_features=[price]")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardFolder:
    return write(tmp_path_factory.mktemp("data"), USERS)


def rows_of_split(split: str) -> list[tuple[int, int]]:
    """Users and places of all events of their part."""
    found = []
    for number, user in enumerate(USERS):
        begin, end = user["train_end"], user["valid_end"]
        if split == "test":
            begin, end = end, len(user["item"])
        found += [(number, place) for place in range(begin, end)]
    return found


def one_by_one(
    task: RankingTask, shards: ShardFolder, rows: list[tuple[int, int]], seen: list[int]
) -> np.ndarray:
    """[rows, labels] of the model, each row with so many of the events before it."""
    (data,) = sequences_of(shards, settings(), task.columns)
    found = []
    for (number, place), history in zip(rows, seen, strict=True):
        event = int(data.offsets[number]) + place
        start, stop = (event - history, event) if history else (event, event + 1)
        columns = [np.array([value]) for value in (number, start, stop, event)]
        batch = gather(data, Windows(*columns), time=task.config.time)
        asked = batch.num_events - 1 if history else batch.num_events
        with torch.no_grad():
            found.append(task.model(batch, torch.tensor([asked]))[0].numpy())
    return np.stack(found)


@pytest.mark.parametrize("order", ["interleaved", "added"])
@pytest.mark.parametrize("time", ["known", "unknown"])
@pytest.mark.parametrize("split", ["valid", "test"])
def test_rows_are_predicted_given_all_before_them(
    order: str, time: str, split: Any, shards: ShardFolder
) -> None:
    """Several rows in one pass over a history, against a pass each; some histories are empty."""
    task = task_of(
        shards, *FEATURES, f"task.actions={order}", f"model.time={time}", "task.label=[value>=4, buy]"
    )
    source = sequences_of(shards, settings(), task.columns)
    found = task.evaluator(source, settings().evaluation).judge(split, shards, {})
    rows = rows_of_split(split)
    assert list(zip(found.rows.sequence.tolist(), found.rows.position.tolist(), strict=True)) == rows
    (data,) = source
    passes = Passes.of(data, labelled_rows(data, task.model.labels, split), N)
    seen = [asked + 1 for asked in passes.asked.tolist()]
    whole = [place for _, place in rows]
    assert all(min(place, N // 2) <= count <= min(place, N) for count, place in zip(seen, whole, strict=True))
    assert max(whole) > N
    assert 0 in seen
    np.testing.assert_allclose(found.predicted, one_by_one(task, shards, rows, seen), rtol=1e-4, atol=1e-4)


def test_few_passes_are_needed(shards: ShardFolder) -> None:
    (data,) = sequences_of(shards, settings(), task_of(shards).columns)
    rows = labelled_rows(data, parse_labels("buy", ["view", "cart", "buy"]), "test")
    passes = Passes.of(data, rows, N)
    users = len(np.unique(rows.sequence))
    assert users <= len(passes.windows) < len(rows)
    assert (passes.windows.lengths <= N).all()


def test_a_basket_has_one_history(tmp_path: Path) -> None:
    """The rows of a part that is one basket see what was before it, and not each other."""
    users = []
    for user in USERS:
        cut, length = len(user["item"]) // 2, len(user["item"])
        times = [100 * place for place in range(cut)] + [100 * cut] * (length - cut)
        users.append({**user, "timestamp": times, "train_end": cut, "valid_end": cut})
    shards = write(tmp_path / "data", users, {"kind": "next_basket", "targets": "all"})
    task = task_of(shards, "task.label=buy")
    source = sequences_of(shards, settings(), task.columns)
    found = task.evaluator(source, settings().evaluation).judge("test", shards, {})
    (data,) = source
    for number in np.flatnonzero(found.rows.position > found.rows.stop)[:10].tolist():
        user, place, stop = (
            int(column[number]) for column in (found.rows.sequence, found.rows.position, found.rows.stop)
        )
        if stop == 0:
            continue
        begin = int(data.offsets[user])
        columns = [
            np.array([value]) for value in (user, begin + max(0, stop - N), begin + stop, begin + place)
        ]
        batch = gather(data, Windows(*columns), time="known")
        with torch.no_grad():
            expected = task.model(batch, torch.tensor([batch.num_events - 1]))[0].numpy()
        np.testing.assert_allclose(found.predicted[number], expected, rtol=1e-4, atol=1e-4)


def test_a_run_is_evaluated_by_the_door_of_every_run(shards: ShardFolder, tmp_path: Path) -> None:
    config = settings("task.label=[value>=4, buy]", *FEATURES)
    assert (config.train.select_by, settings("task.label=value").train.select_by) == ("auc", "rmse")
    watcher = Watcher()
    result = train(config, shards.where(), tmp_path / "run", observer=watcher)
    found = models.evaluate(tmp_path / "run", "valid", device="cpu")
    best = watcher.validations[(result.best_epoch or 1) - 1].metrics
    for name in ("auc", "gauc", "log_loss", "normalized_entropy", "expected_calibration_error"):
        assert found[name] == pytest.approx(best[name])
    assert found["labels"]["buy"]["auc"] == pytest.approx(best["labels"]["buy"]["auc"])
    assert (found["time"], found["checkpoint"], found["model"]) == ("known", "best", "hstu")
    evaluation = judge_run(tmp_path / "run", "test", device="cpu")
    assert isinstance(evaluation, ActionEvaluation)
    write_predictions({"hstu": evaluation}, tmp_path / "rows.parquet")
    table = pq.read_table(tmp_path / "rows.parquet")
    assert {"user", "item", "timestamp", "action", "label", "probability"} <= set(table.column_names)
    known = sum(USERS[n]["value"][p] == USERS[n]["value"][p] for n, p in rows_of_split("test"))
    assert table.num_rows == len(rows_of_split("test")) + known
    with pytest.raises(UserError, match="'ranking' scores no items"):
        models.load_model(tmp_path / "run", device="cpu").score([])


@pytest.mark.parametrize(
    ("label", "why"),
    [
        ("value>=9", "the label is 0 for every training event that has it"),
        ("value>=0", "the label is 1 for every training event that has it"),
        ("view|cart|buy", "the label is 1 for every training event that has it"),
        ("buy against buy", "the label is 1 for every training event that has it"),
        ("value>=9 against value>=8", "no training event has the label"),
    ],
)
def test_a_label_that_is_always_the_same_is_refused(
    label: str, why: str, shards: ShardFolder, tmp_path: Path
) -> None:
    judged = (f"task.label={label}",)
    beside = ("task.label=buy", f"task.auxiliary=[{label}]")
    for overrides in (judged, beside):
        if overrides is beside and label == "buy against buy":
            continue
        with pytest.raises(UserError, match=why) as caught:
            train(settings(*overrides), shards.where(), tmp_path / "run")
        assert label in str(caught.value)
        assert "name another label" in str(caught.value)
    # What is corrected is trained into the same folder.
    train(settings("task.label=buy", "train.epochs=1"), shards.where(), tmp_path / "run")


def test_what_only_items_in_order_have_is_refused(shards: ShardFolder, tmp_path: Path) -> None:
    """And is not where retrieval is learned on the same backbone."""
    run, joint = tmp_path / "run", tmp_path / "joint"
    train(settings("task.label=buy", "train.epochs=1"), shards.where(), run)
    train(settings("task.label=buy", "train.epochs=1", "task.retrieval_weight=1"), shards.where(), joint)
    asked: list[dict[str, Any]] = [
        {"exclude_seen": True}, {"target_behavior": "view"}, {"by": ["popularity"]}, {"cutoffs": [3]}
    ]  # fmt: skip
    for settings_of_ranks in asked:
        (name,) = settings_of_ranks
        with pytest.raises(UserError, match=f"'{name}' would change nothing"):
            models.evaluate(run, device="cpu", **settings_of_ranks)
    assert "hr@3" in models.evaluate(joint, device="cpu", cutoffs=[3])["retrieval"]
    for others, flag in (({"against": run}, "--against"), ({"average": [run]}, "--average")):
        with pytest.raises(UserError, match="rank") as caught:
            models.evaluate(run, device="cpu", **others)  # type: ignore[arg-type]
        assert flag in str(caught.value.where)
        assert caught.value.fix


def test_leaving_one_out_has_no_auc_within_users(tmp_path: Path) -> None:
    users = [
        {**user, "train_end": max(len(user["item"]) - 2, 0), "valid_end": len(user["item"]) - 1}
        for user in USERS
    ]
    shards = write(tmp_path / "data", users, LEAVE_LAST_OUT)
    result = train(settings("train.epochs=1"), shards.where(), tmp_path / "run")
    assert "auc" in result.best_metrics
    assert "gauc" not in result.best_metrics


def test_a_number_is_predicted(shards: ShardFolder, tmp_path: Path) -> None:
    result = train(settings("task.label=value"), shards.where(), tmp_path / "run")
    assert set(result.best_metrics) >= {"rmse", "mae"}
    assert 0.5 < result.best_metrics["rmse"] < 3.0


def test_killed_it_goes_on_to_the_same_losses(shards: ShardFolder, tmp_path: Path) -> None:
    config = settings("train.accumulate=2", "optimizer.clip_norm=1", "train.log_every_steps=1")
    train(config, shards.where(), tmp_path / "whole")
    train(
        config.model_copy(update={"train": config.train.model_copy(update={"epochs": 1})}),
        shards.where(),
        tmp_path / "broken",
    )
    train(config, shards.where(), tmp_path / "broken", resume=True)
    assert records(tmp_path / "broken")[-1] == records(tmp_path / "whole")[-1]
    assert same_weights(weights(tmp_path / "broken"), weights(tmp_path / "whole"))


@pytest.mark.parametrize("order", ["joined", "added"])
def test_steps_of_fixed_sizes_have_the_same_losses(
    order: str, shards: ShardFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are captured as CUDA graphs, taken here without the capture."""
    config = settings(f"task.actions={order}", "optimizer.clip_norm=1", "train.log_every_steps=1", *FEATURES)
    train(config, shards.where(), tmp_path / "plain")
    monkeypatch.setattr(static_input, "_SMALLEST", 4)
    monkeypatch.setattr(dispatch, "KERNELS", KERNELS_AND_READING)
    monkeypatch.setattr(setup, "captures_steps", lambda *_: True)
    monkeypatch.setattr(setup, "CudaGraphs", lambda *_: lambda work: work)
    train(config, shards.where(), tmp_path / "padded")
    for mine, theirs in zip(records(tmp_path / "padded"), records(tmp_path / "plain"), strict=True):
        for name in ("step", "loss", "gradient_norm", "log_loss", "auc"):
            assert mine.get(name, 0.0) == pytest.approx(theirs.get(name, 0.0), rel=1e-4)


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("embedding.layout=interleaved", "order of tokens of its own"),
        ("embedding.query_behavior=add", "is what is predicted"),
        ("embedding.features=attention_only", "candidates have values"),
        ("model.input_behaviors=target", "every event is a row"),
        ("loss.history=learned", "softmax over items"),
        ("task.label=null", "what is to be predicted"),
        ("task.label=like", "no behavior 'like'"),
        ("task.weights={buy: 2}", "no label 'buy'"),
        ("task.weights={value>=4: 0}", "nothing is learned"),
        ("task.known_features=[brand]", "no event feature 'brand'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting: str, why: str, shards: ShardFolder) -> None:
    with pytest.raises(UserError, match=why):
        task_of(shards, setting)


def test_a_feature_is_known_before_or_after(shards: ShardFolder) -> None:
    with pytest.raises(UserError, match="not both"):
        task_of(shards, "task.known_features=[price]", "embedding.event_features=[price]")
    both = task_of(shards, "task.known_features=[price]", "embedding.event_features=all")
    assert (both.model.embedding.known.names, both.model.embedding.events.names) == (["price"], ["device"])


def test_metrics_of_rankings_are_none_of_retrieval() -> None:
    with pytest.raises(UserError, match=r"select_by is 'ndcg@10'.* auc, gauc, log_loss"):
        settings("train.select_by=ndcg@10")
    assert math.isfinite(settings("train.select_by=log_loss").train.epochs)
