"""A training begins with the weights of a run on another data set, which has something for other parts."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from behavior.errors import UserError
from behavior.shards.manifest import FeatureEntry
from models.runs.checkpoint import load_checkpoint
from models.runs.run_folder import open_run
from models.training import train
from tests.models.shards import User, World, write_shards
from tests.models.training.training_runs import settings

ITEMS, FIRST = 9, 2
LOGITS = (
    *("loss.history=learned", "loss.history_dim=4"),
    *("loss.jumps=learned", "loss.jump_neighbors=3", "loss.jump_dim=4", "loss.jump_folds=2"),
    *("model.bias=position", "model.time=unknown", "train.epochs=1"),
)
STILL = "optimizer.learning_rate=1e-30"
BY_TIME = {"history.time", "jumps.time", "jumps.gap"}
BY_LESSER_BEHAVIORS = {"history.closed"}


def data(folder: Path, *, time: bool, targets: tuple[str, ...], **more: object) -> Path:
    rows = [[FIRST + (start + step) % ITEMS for step in range(7)] for start in range(12)]
    users = [User(row, 5, 6, behavior=[2, 1, 2, 1, 2, 2, 2]) for row in rows]
    unit = "s" if time else "none"
    world = World(ITEMS, behaviors=("view", "buy"), targets=targets, timestamp_unit=unit, **more)  # type: ignore[arg-type]
    return write_shards(folder, users, world)


def run(tmp_path: Path, name: str, *settings_: str, init: Path | None = None, **of_data: object) -> Path:
    folder = data(tmp_path / f"data-{name}", **of_data)  # type: ignore[arg-type]
    train(settings(*settings_), folder, tmp_path / name, init=init)
    return tmp_path / name


def weights_of(run: Path) -> dict[str, Tensor]:
    return load_checkpoint(open_run(run).best).model


def test_terms_that_the_data_decides_on_come_and_go(tmp_path: Path) -> None:
    fast = "optimizer.learning_rate=0.1"
    rich = run(tmp_path, "rich", *LOGITS, fast, time=True, targets=("buy",))
    poor = run(tmp_path, "poor", *LOGITS, STILL, init=rich, time=False, targets=("view", "buy"))
    back = run(tmp_path, "back", *LOGITS, STILL, init=poor, time=True, targets=("buy",))
    before, less, after = weights_of(rich), weights_of(poor), weights_of(back)
    assert before.keys() - less.keys() == BY_TIME | BY_LESSER_BEHAVIORS
    assert before.keys() == after.keys()
    for name in BY_TIME | BY_LESSER_BEHAVIORS:
        assert before[name].any()
        assert after[name].abs().max() < 1e-20  # fresh, and these begin with zeros
    for name in ("history.behavior", "history.recency", "jumps.behavior", "history.query.weight"):
        assert before[name].any()
        torch.testing.assert_close(less[name], before[name], rtol=0, atol=1e-6)
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-6)


def test_terms_that_are_named_have_to_be_there(tmp_path: Path) -> None:
    terms = "loss.history_terms=[product, recency]"
    rich = run(tmp_path, "rich", *LOGITS, time=True, targets=("buy",))
    with pytest.raises(UserError, match=r"history\.\w+ is not part of this model"):
        run(tmp_path, "poor", *LOGITS, terms, init=rich, time=False, targets=("view", "buy"))


def test_attributes_to_predict_have_to_be_the_same(tmp_path: Path) -> None:
    predicts = ("loss.attributes_weight=0.5", "train.epochs=1")
    of_data = {"time": True, "targets": ("view", "buy")}

    def genres(name: str) -> dict[str, object]:
        entry = FeatureEntry(name=name, kind="categorical", encoding="vocabulary", vocabulary_size=5)
        ids = pa.array([3 + item % 2 for item in range(ITEMS)], pa.int32())
        return {"item_features": (entry,), "item_columns": {name: ids}}

    start = run(tmp_path, "start", *predicts, **of_data, **genres("genre"))
    with pytest.raises(UserError, match="other item features: genre; here style") as caught:
        run(tmp_path, "other", *predicts, init=start, **of_data, **genres("style"))
    assert "loss.attributes_weight=0" in (caught.value.fix or "")
