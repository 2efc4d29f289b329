"""Runs whose inputs are events of some behaviors: evaluated on the same users and targets as all others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from behavior.errors import UserError
from models import load_model
from models.config import load_config
from models.evaluate_run import evaluate
from models.serving.score import History
from models.training import train
from tests.models.evaluation.evaluation_oracle import WORLD, history_users
from tests.models.evaluation.run_oracle import SETTINGS, check_run
from tests.models.shards import User, write_shards


def users() -> list[User]:
    """The first four have nothing but views before their validation target."""
    made = history_users()
    views = [User(u.item, u.train_end, u.valid_end, [*[1] * u.train_end, 2, 2], u.timestamp) for u in made]
    return [*views[:4], *made[4:]]


def test_a_run_on_buys_is_evaluated_on_the_same_targets(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "data", users(), WORLD)
    config = load_config("default", [*SETTINGS, "model.input_behaviors=target"])
    check_run(config, shards, tmp_path / "buys", users(), "first", (2,), inputs=(2,))
    train(load_config("default", SETTINGS), shards, tmp_path / "all")
    found = evaluate(tmp_path / "buys", "valid", device="cpu", against=tmp_path / "all")
    other = evaluate(tmp_path / "all", "valid", device="cpu")
    assert (found["users"], found["targets"]) == (other["users"], other["targets"])
    assert (found["input_behaviors"], found["targets_without_inputs"]) == ("target", 4)
    assert "input_behaviors" not in other
    assert found["comparison"]["metrics"]["hr@3"]["theirs"] == other["hr@3"]
    assert evaluate(tmp_path / "buys", "test", device="cpu")["targets_without_inputs"] == 0

    model = load_model(tmp_path / "buys", device="cpu")
    bought = History([2, 3], [2, 2], [5, 6], next_timestamp=9)
    viewed_too = History([4, 2, 5, 3, 7], [1, 2, 1, 2, 1], [1, 5, 5, 6, 8], next_timestamp=9)
    torch.testing.assert_close(model.score([bought]), model.score([viewed_too]))
    with pytest.raises(UserError, match="history 1 has no event that is an input: buy"):
        model.score([bought, History([4], [1], [1])])
