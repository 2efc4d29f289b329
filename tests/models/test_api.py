"""`import models`: settings, training, evaluation and trained models from Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

import models
from behavior.errors import UserError
from models import History
from models.data.about import about_sequences
from models.data.catalog import ItemCatalog
from models.evaluation.baselines import BASELINES
from models.evaluation.targets import find_targets
from models.runs.checkpoint import load_checkpoint
from models.tasks.retrieval import build_model, model_scorer
from tests.models.shards import User, World, load, write_shards
from tests.models.training import training_runs

WORLD = World(num_items=6, behaviors=("view", "buy"), targets=("buy",))
SETTINGS = [*training_runs.SETTINGS, "evaluation.exclude_seen=auto"]
NEXT = ["model.time=known", "embedding.behaviors=add", "embedding.query_behavior=add"]


def users() -> list[User]:
    """Ten events each, the last three bought; times that do not rise evenly."""
    found = []
    for start in range(12):
        items = [2 + (start + step * (1 + start % 2)) % 6 for step in range(10)]
        times = [100 * start + 7 * step * step for step in range(10)]
        found.append(User(items, 8, 9, behavior=[1, 2] * 3 + [1, 2, 2, 2], timestamp=times))
    return found


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("api") / "data", users(), WORLD)


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; not to be changed."""
    out = tmp_path_factory.mktemp("api") / "run"
    models.train(models.load_config("default", [*SETTINGS, *NEXT]), shards, str(out))
    return out


def modules_after(code: str) -> set[str]:
    code += "; import sys; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(found.stdout.split())


def test_nothing_is_imported_before_it_is_used() -> None:
    heavy = {"torch", "numba", "pyarrow", "lightning", "matplotlib", "pydantic"}
    assert not modules_after("import models; dir(models)") & heavy
    assert not modules_after("import models; models.load_config()") & (heavy - {"pydantic"})
    assert "torch" in modules_after("import models; models.train")


def test_every_name_is_there() -> None:
    assert dir(models) == sorted(models.__all__)
    assert all(getattr(models, name).__name__ == name for name in models.__all__)
    with pytest.raises(AttributeError, match="module 'models' has no attribute 'fit'"):
        _ = models.fit


def test_a_loaded_model_has_the_weights_and_settings_of_its_run(run: Path, shards: Path) -> None:
    model = models.load_model(run, device="cpu")
    assert (model.run, model.checkpoint) == (run, "best")
    assert model.config == models.load_config("default", [*SETTINGS, *NEXT])
    assert not model.module.training
    saved = load_checkpoint(run / "checkpoints" / "best.safetensors")
    assert model.progress == saved.progress
    own = model.module.state_dict()
    assert own.keys() == saved.model.keys()
    assert all(torch.equal(own[name], saved.model[name]) for name in own)
    assert model.about == about_sequences(model.shards)
    assert model.item_ids.equals(pa.array([2, 3, 4, 5, 6, 7]))
    last = models.load_model(run, checkpoint="last", data=shards)
    assert last.progress["step"] == load_checkpoint(run / "checkpoints" / "last.safetensors").progress["step"]


def test_scores_are_those_that_an_evaluation_ranks_by(run: Path) -> None:
    model = models.load_model(run, device="cpu")
    data = load(model.shards.folder)
    targets = find_targets(data, "test")
    expected = model_scorer(model.module, model.config.model)(data, targets).columns(0, 6)
    histories = [
        History(
            user.item[:9],
            user.behavior[:9],
            user.timestamp[:9],
            next_behavior=user.behavior[9],
            next_timestamp=user.timestamp[9],
        )
        for user in users()
    ]
    found = model.score(histories)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    # One by one, and in any order: a history's scores are its own.
    torch.testing.assert_close(torch.cat([model.score([h]) for h in reversed(histories)]).flip(0), found)
    assert model.score([]).shape == (0, 6)


def test_what_comes_next_is_by_default_a_target_behavior_now(run: Path) -> None:
    model = models.load_model(run, device="cpu")
    history = History([2, 3, 4], [1, 1, 2], [10, 20, 35])
    told = History([2, 3, 4], [1, 1, 2], [10, 20, 35], next_behavior=2, next_timestamp=35)
    assert torch.equal(model.score([history]), model.score([told]))
    viewed = History([2, 3, 4], [1, 1, 2], [10, 20, 35], next_behavior=1)
    assert not torch.equal(model.score([history]), model.score([viewed]))


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (History([]), "history 1 is empty"),
        (History([2]), "history 1 has no timestamps"),
        (History([2, 3], [1], [5, 6]), "history 1 has 2 items and 1 of 'behavior'"),
        (History([2, 8], timestamps=[5, 6]), "history 1 has a value of 'item' outside 1 to 7"),
        (History([2, 0], timestamps=[5, 6]), "history 1 has a value of 'item' outside 1 to 7"),
        (History([2], [3], timestamps=[5]), "history 1 has a value of 'behavior' outside 1 to 2"),
        (History([2, 3], timestamps=[6, 5]), "history 1 has a time before that of the event before it"),
        (History([2], timestamps=[6], next_timestamp=5), "history 1 has a time before"),
        (History([2], timestamps=[]), "history 1 has 1 item and 0 of 'timestamp'"),
    ],
)
def test_histories_that_make_no_sense_are_refused(run: Path, history: History, message: str) -> None:
    fine = History([2], timestamps=[5])
    with pytest.raises(UserError, match=message):
        models.load_model(run, device="cpu").score([fine, history])


def test_a_run_and_its_loaded_model_have_the_same_report(run: Path) -> None:
    report = models.evaluate(run, "valid", device="cpu", bootstrap=20)
    assert models.evaluate(models.load_model(run, device="cpu"), "valid", bootstrap=20) == report
    assert report["split"] == "valid"
    other = models.evaluate(run, "valid", device="cpu", cutoffs=[3], bootstrap=0, baselines=True)
    assert {"hr@3", "ndcg@3"} <= set(other)
    assert {*other["baselines"], *other["baselines_left_out"]} == set(BASELINES)
    told: list[str] = []
    alone = models.evaluate(run, "valid", device="cpu", baselines=["markov"], against=run, told=told.append)
    assert told == ["the model", str(run), "markov"]
    assert set(alone["baselines"]) == {"markov"}
    assert all(row["difference"] == 0 for row in alone["comparison"]["metrics"].values())


def test_a_module_that_was_trained_on_is_evaluated_as_it_is(run: Path) -> None:
    model = models.load_model(run, device="cpu")
    before = models.evaluate(model, bootstrap=0, exclude_seen=False)
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter.copy_(torch.from_numpy(np.random.default_rng(0).normal(size=parameter.shape)))
    assert models.evaluate(model, bootstrap=0, exclude_seen=False) != before


def test_another_catalog_is_refused(run: Path, tmp_path: Path) -> None:
    other = write_shards(tmp_path / "other", users()[:-1], WORLD)
    with pytest.raises(UserError, match="trained on another data set"):
        models.load_model(run, data=other)


def test_a_model_of_fresh_weights_has_the_names_of_a_loaded_one(run: Path) -> None:
    model = models.load_model(run, device="cpu")
    about, catalog = model.about, ItemCatalog.from_shards(model.shards)
    fresh = build_model(model.config, catalog, num_behaviors=about.num_behaviors, has_time=about.has_time)
    assert fresh.state_dict().keys() == model.module.state_dict().keys()
