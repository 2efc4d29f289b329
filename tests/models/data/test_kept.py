"""Inputs by behavior, against lists that are filtered by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.build import build_task, make_loader, sequences_of
from models.config import load_config
from models.data.about import About
from models.data.declared import CORE
from models.data.kept import KeptEvents, kept_behaviors, only_kept
from models.data.windows import gather, history_windows
from models.evaluation.targets import find_targets, targets_without_inputs
from models.training import train
from tests.models.shards import User, World, load, rows, write_shards
from tests.models.training.training_runs import SETTINGS, same_weights, weights

NAMES = ("view", "cart", "buy")
WORLD = World(num_items=30, behaviors=NAMES, targets=("buy",), files=2)
N = 8


def users() -> list[User]:
    """The last two events are buys; some histories have nothing but views."""
    generator = np.random.default_rng(3)
    made = [
        User(
            generator.integers(2, 32, length).tolist(),
            length - 2,
            length - 1,
            behavior=[*generator.integers(1, 2 if length % 4 == 0 else 4, length - 2).tolist(), 3, 3],
            timestamp=np.sort(generator.integers(0, 10**5, length)).tolist(),
        )
        for length in [*range(3, 30), 60]
    ]
    return [*made, User([5], 1, 1, behavior=[1], timestamp=[4])]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data"), users(), WORLD)


def test_sequences_keep_what_stays_where_it_was_cut(shards: Path) -> None:
    data = load(shards)
    found = only_kept(data, np.array([False, False, True, True]))
    for number, user in enumerate(users()):
        events = slice(*found.offsets[number : number + 2].tolist())
        kept = [place for place, behavior in enumerate(user.behavior) if behavior != 1]
        for name, values in (("item", user.item), ("timestamp", user.timestamp), ("behavior", user.behavior)):
            assert found.events[name][events].tolist() == [values[place] for place in kept]
        for name in ("train_end", "valid_end"):
            assert getattr(found, name)[number] == sum(place < getattr(user, name) for place in kept)
    assert found.row.tolist() == data.row.tolist()


@pytest.mark.parametrize(
    ("setting", "inputs"), [("target", (3,)), (["buy", "cart"], (2, 3)), (["buy"], (3,)), ("all", (1, 2, 3))]
)
def test_training_sees_the_newest_inputs_and_predicts_the_next_one(
    setting: str | list[str], inputs: tuple[int, ...], shards: Path
) -> None:
    told = str(setting).replace("'", "")
    config = load_config("default", [*SETTINGS, f"model.input_behaviors={told}", "train.epochs=1"])
    folder = open_shards(shards)
    loader = make_loader(config, sequences_of(folder, config, CORE), NAMES)
    found = {}
    for batch in loader:
        columns = [rows(batch, name) for name in ("item", "position", "target", "target_behavior")]
        for number, *values in zip(batch.sequence.tolist(), *columns, strict=True):
            found[number] = values
    loader.close()
    expected = {}
    for number, user in enumerate(users()):
        kept = [event for event in range(user.train_end) if user.behavior[event] in inputs][-N - 1 :]
        if len(kept) > 1:
            items, behaviors = ([values[event] for event in kept] for values in (user.item, user.behavior))
            expected[number] = [items[:-1], list(range(len(kept) - 1)), items[1:], behaviors[1:]]
    assert found == expected


def test_histories_are_the_newest_inputs_and_targets_stay(shards: Path) -> None:
    data = load(shards)
    targets = find_targets(data, "test")
    for setting, inputs in (("target", (3,)), (["buy", "cart"], (2, 3))):
        kept = KeptEvents(setting).of(data)  # type: ignore[arg-type]
        windows = history_windows(data, targets.sequence, targets.stop, targets.event, N, kept)
        batch = gather(data, windows, time="known")
        for number, items, when, target in zip(
            targets.sequence,
            rows(batch, "item"),
            rows(batch, "query_time"),
            rows(batch, "target"),
            strict=True,
        ):
            user = users()[number]
            past = [event for event in range(user.valid_end) if user.behavior[event] in inputs][-N:]
            following = [*past, user.valid_end][1:]
            assert items == [user.item[event] for event in past]
            assert target == [user.item[event] for event in following][: len(past)]
            assert when == [user.timestamp[event] for event in following][: len(past)]
    assert KeptEvents("all").of(data) is None


def test_histories_without_inputs_are_counted(shards: Path) -> None:
    data = load(shards)
    for split, end in (("valid", "train_end"), ("test", "valid_end")):
        expected = sum(
            not {3} & set(user.behavior[: getattr(user, end)])
            for user in users()
            if 0 < getattr(user, end) < len(user.item)
        )
        assert targets_without_inputs(data, split, "target") == expected  # type: ignore[arg-type]
        assert targets_without_inputs(data, split, "all") == 0  # type: ignore[arg-type]
    assert expected == 0  # a test target has a buy before it
    assert targets_without_inputs(data, "valid", "target") > 0


def test_all_behaviors_by_name_are_all(shards: Path, tmp_path: Path) -> None:
    short = [*SETTINGS, "train.epochs=1"]
    train(load_config("default", short), shards, tmp_path / "all")
    named = "model.input_behaviors=[cart, view, buy]"
    train(load_config("default", [*short, named]), shards, tmp_path / "named")
    assert same_weights(weights(tmp_path / "all"), weights(tmp_path / "named"))


ABOUT = About(True, (3,), 2, 10, 3, behaviors=NAMES)


@pytest.mark.parametrize(
    ("setting", "message", "fix"),
    [
        (["buy", "crat"], "no behavior 'crat'", "did you mean 'cart'"),
        (["cart"], "'buy' is predicted and would be no input", "add 'buy'"),
        ([], "'buy' is predicted", "add 'buy'"),
    ],
)
def test_what_makes_no_sense_is_refused(setting: list[str], message: str, fix: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        kept_behaviors(setting, ABOUT)
    assert caught.value.where == "model.input_behaviors"
    assert fix in (caught.value.fix or "")


def test_several_targets_are_all_kept() -> None:
    two = replace(ABOUT, target_behaviors=(1, 3))
    kept = kept_behaviors("target", two)
    assert kept is not None
    assert kept.tolist() == [False, True, False, True]
    with pytest.raises(UserError, match="'view' is predicted"):
        kept_behaviors(["cart", "buy"], two)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["embedding.layout=interleaved", "model.input_behaviors=target"], "only 'buy' is an input"),
        (
            ["loader.sampling.quotas={view: 3}", "model.input_behaviors=[cart, buy]"],
            "a quota for 'view', of which no event is an input",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    settings: list[str], message: str, shards: Path
) -> None:
    with pytest.raises(UserError, match=message):
        build_task(load_config("default", [*SETTINGS, *settings]), open_shards(shards))
