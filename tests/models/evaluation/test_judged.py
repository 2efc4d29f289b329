"""Evaluation of one behavior, whatever the data set's targets are."""

from __future__ import annotations

from pathlib import Path

import pytest

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.config import load_config
from models.data.judged import judged_events
from models.data.loading import ShardSource
from models.data.sequences import concat_sequences
from models.evaluate_run import evaluate
from models.evaluation.baselines import evaluate_baseline
from models.evaluation.config import EvaluationConfig
from models.evaluation.judged import judged_sequences
from models.evaluation.seen import SeenItems
from models.training import train
from tests.models.evaluation.run_oracle import SETTINGS
from tests.models.shards import User, World, write_shards

WORLD = World(num_items=6, behaviors=("view", "buy"), targets=("buy",))
USERS = [
    User([2, 3, 4, 5, 6, 7, 2, 3, 4], 3, 6, [1, 1, 2, 2, 1, 1, 2, 1, 1], list(range(9))),
    User([4, 5, 6, 7], 2, 3, [1, 2, 2, 2], list(range(4))),  # no view is left to be evaluated
    User([3, 3, 5, 2, 6], 2, 4, [1, 2, 2, 1, 2], list(range(5))),  # one in the validation part
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data"), USERS, WORLD)


@pytest.mark.parametrize(
    ("split", "behavior", "expected"),
    [
        ("valid", None, [(0, 3), (1, 2), (2, 2)]),
        ("valid", "view", [(0, 5), (2, 3)]),
        ("test", "view", [(0, 8)]),
        ("test", "buy", [(0, 6), (1, 3), (2, 4)]),
    ],
)
def test_the_last_event_of_a_part_is_left_out(
    split: str, behavior: str | None, expected: list[tuple[int, int]], shards: Path
) -> None:
    """Never one of the training part."""
    data = concat_sequences(list(judged_sequences(ShardSource(open_shards(shards)), behavior)))
    sequence, event = judged_events(data, split)  # type: ignore[arg-type]
    places = (event - data.offsets[sequence]).tolist()
    assert list(zip(sequence.tolist(), places, strict=True)) == expected


def test_seen_items_are_those_of_the_behavior(shards: Path) -> None:
    source = ShardSource(open_shards(shards))
    assert SeenItems.resolve(judged_sequences(source, "view"), "auto").excluded is False  # 3 is viewed twice
    assert "1 of 9 target events" in SeenItems.resolve(judged_sequences(source, "view"), "auto").reason
    assert SeenItems.resolve(judged_sequences(source, None), "auto").excluded is True


def test_runs_and_baselines_are_evaluated_by_it(shards: Path, tmp_path: Path) -> None:
    train(load_config("default", SETTINGS), shards, tmp_path / "run")
    found = evaluate(tmp_path / "run", device="cpu", target_behavior="view", baselines=["popularity"])
    assert (found["users"], found["targets"], found["target_behavior"]) == (1, 1, "view")
    assert found["baselines"]["popularity"]["targets"] == 1
    assert (
        evaluate_baseline("markov", shards, "valid", EvaluationConfig(target_behavior="view"))["users"] == 2
    )
    same = evaluate(tmp_path / "run", device="cpu", target_behavior="buy", exclude_seen=True)
    usual = evaluate(tmp_path / "run", device="cpu", exclude_seen=True)
    assert {name: same[name] for name in usual if name != "exclude_seen_reason"} == {
        name: value for name, value in usual.items() if name != "exclude_seen_reason"
    }
    with pytest.raises(UserError, match="no behavior 'veiw'") as caught:
        evaluate(tmp_path / "run", device="cpu", target_behavior="veiw")
    assert caught.value.where == "evaluation.target_behavior"
    assert "did you mean 'view'" in (caught.value.fix or "")


def test_a_behavior_of_nobody_is_named(tmp_path: Path) -> None:
    folder = write_shards(tmp_path, USERS[1:2], WORLD)
    with pytest.raises(UserError, match="no event of 'view' is in it") as caught:
        evaluate_baseline("popularity", folder, "test", EvaluationConfig(target_behavior="view"))
    assert "evaluation.target_behavior = view" in str(caught.value.where)
