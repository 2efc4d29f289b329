"""A data set is added to: the runs on it are evaluated, resumed, and others begin with their weights."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from behavior.shards.folder import open_shards
from models.runs.checkpoint import load_checkpoint
from tests.cli.conftest import Lrm

SETTINGS = [
    *("model.dim=8", "model.blocks=1", "model.max_length=10", "embedding.features=add", "train.device=cpu"),
    *("evaluation.cutoffs=[10]", "evaluation.bootstrap=0", "train.checkpoint_every_steps=2"),
]
SET = [part for setting in SETTINGS for part in ("--set", setting)]
OLD, ALL = 20, 30


def write_log(path: Path, users: range, items: range, start: int) -> None:
    generator = random.Random(start)
    rows = [f"u{user},i{generator.choice(items)},{start + step}" for user in users for step in range(6)]
    path.write_text("\n".join(["user,item,ts", *rows, ""]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`before` and `data`, its later version with new items, users and values; not to be changed."""
    from behavior.spec.dataset_spec import load_spec
    from models.config import load_config
    from models.training import train
    from pipelines.append import append
    from pipelines.prepare import prepare

    folder = tmp_path_factory.mktemp("versions")
    write_log(folder / "first.csv", range(40), range(OLD), 100)
    write_log(folder / "second.csv", range(30, 60), range(10, ALL), 1000)
    genres = [f"i{item},{'abcdef'[item // 5]}" for item in range(ALL)]
    (folder / "items.csv").write_text("\n".join(["id,genre", *genres, ""]))
    spec = {
        "name": "grows",
        "events": {"files": "first.csv", "columns": {"user": "user", "item": "item", "timestamp": "ts"}},
        "timestamp_unit": "s",
        "items": {"files": "items.csv", "id": "id", "features": [{"name": "genre", "kind": "categorical"}]},
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    loaded, base = load_spec(folder / "spec.yaml")
    prepare(loaded, base, folder / "data")
    train(load_config("default", [*SETTINGS, "train.epochs=2"]), folder / "data", folder / "run")
    shutil.copytree(folder / "data", folder / "before")
    append(loaded, base, folder / "data", [str(folder / "second.csv")])
    return folder


def table(run: Path, name: str, checkpoint: str = "last") -> torch.Tensor:
    path = run / "checkpoints" / f"{checkpoint}.safetensors"
    return load_checkpoint(path).model[f"embedding.{name}.weight"]


def test_a_run_is_evaluated_on_a_later_version(lrm: Lrm, folder: Path) -> None:
    known, all_items = (open_shards(folder / name).num_items for name in ("before", "data"))
    assert (known, all_items) == (OLD, ALL)
    done = lrm("evaluate", folder / "run", "--baselines", "--json")
    assert done.code == 0, done.err
    ranked = json.loads(done.out)
    left_out = json.loads(
        lrm("evaluate", folder / "run", "--new-items", "leave_out", "--baselines", "--json").out
    )
    for found, candidates in ((ranked, all_items), (left_out, known)):
        assert (found["new_items"], found["candidates"]) == (all_items - known, candidates)
        assert found["baselines"]["markov"]["candidates"] == candidates
        assert found["new_targets"] > 0
        assert found["users"] == 60
    assert left_out["hr@10"] <= 1 - left_out["new_targets"] / left_out["targets"] + 1e-9
    assert left_out["excluded_targets"] == 0
    again = json.loads(lrm("evaluate", folder / "run", "--json").out)
    assert {name: again[name] for name in again if "@" in name} == {
        name: ranked[name] for name in again if "@" in name
    }
    text = lrm("evaluate", folder / "run", "--new-items", "leave_out").out
    assert f"{all_items - known} items that the model has never seen left out" in text
    assert "new targets" in text
    before = lrm("evaluate", folder / "run", "--data", folder / "before")
    assert before.code == 0
    assert "later version" not in before.out


def test_recommendations_of_a_later_version_say_so(lrm: Lrm, folder: Path) -> None:
    now = lrm("recommend", folder / "run", "--k", 1, "--at", 2000, "--json")
    new = f"{ALL - OLD} items that the model has never seen ranked by fresh vectors"
    assert any(new in note for note in json.loads(now.out)["notes"]), now.err
    before = lrm("recommend", folder / "run", "--k", 1, "--at", 2000, "--json", "--data", folder / "before")
    assert not any("later version" in note for note in json.loads(before.out)["notes"])


def test_a_run_is_resumed_on_a_later_version(lrm: Lrm, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    old = table(tmp_path / "run", "item")
    done = lrm("train", "--data", folder / "data", "--out", tmp_path / "run", "--resume", "--epochs", 2)
    assert done.code == 0, done.err
    assert "a later version than the run's" in done.err
    grown = table(tmp_path / "run", "item")  # no epoch was left
    assert torch.equal(grown[: len(old)], old)
    assert grown[len(old) :].any(1).all()
    done = lrm("train", "--data", folder / "data", "--out", tmp_path / "run", "--resume", "--epochs", 3)
    assert done.code == 0, done.err
    assert "later version" not in done.err
    # As a run of which nothing but the new rows was new: the seed draws them alike.
    shutil.copytree(folder / "run", tmp_path / "other")
    lrm("train", "--data", folder / "data", "--out", tmp_path / "other", "--resume", "--epochs", 3)
    assert torch.equal(table(tmp_path / "run", "item"), table(tmp_path / "other", "item"))
    assert lrm("evaluate", tmp_path / "run").code == 0
    # The earlier version lacks items that the model has now.
    done = lrm("evaluate", tmp_path / "run", "--data", folder / "before")
    assert done.code == 1
    assert "version 2, here 1" in done.err


@pytest.mark.parametrize("data", ["data", "before"])
def test_a_training_begins_with_the_weights_of_another(
    lrm: Lrm, folder: Path, tmp_path: Path, data: str
) -> None:
    """At a rate that moves nothing, by as many bits as a weight has."""
    still = [*SET, "--set", "optimizer.learning_rate=1e-30", "--epochs", 1]
    start = folder / "run"
    done = lrm("train", "--data", folder / data, "--out", tmp_path / "a", "--init", start, *still)
    assert done.code == 0, done.err
    for name in ("item", "features.0.table"):
        there = table(start, name, "best")
        assert torch.equal(table(tmp_path / "a", name)[: len(there)], there)
    assert json.loads((tmp_path / "a" / "run.json").read_text())["init"] == str(start)
    # And back to the data set with fewer items.
    done = lrm(
        "train", "--data", folder / "before", "--out", tmp_path / "b", "--init", tmp_path / "a", *still
    )
    assert done.code == 0, done.err
    assert torch.equal(table(tmp_path / "b", "item"), table(start, "item", "best"))


def test_what_cannot_be_begun_with_is_told(lrm: Lrm, folder: Path, tmp_path: Path) -> None:
    new = ("train", "--data", folder / "data", "--out", tmp_path / "a")
    for more, said in (
        (("--init", tmp_path / "none"), "is not a training run"),
        (("--init", folder / "run", "--resume"), "there is no training run"),
        (("--init", folder / "run", *SET, "--set", "model.dim=16"), "of another architecture"),
    ):
        done = lrm(*new, *more)
        assert done.code == 1
        assert said in done.err
    done = lrm(
        "train", "--data", folder / "data", "--out", folder / "run", "--init", folder / "run", "--resume"
    )
    assert "a run that is resumed has weights of its own" in done.err
