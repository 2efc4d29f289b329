"""Settings and recipes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from behavior.config import parse_config
from behavior.errors import UserError
from models.config import RunConfig, load_config
from models.gpu.device import pick_device
from models.recipes import load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid_and_survives_being_written_down(name: str) -> None:
    config = load_config(name)
    text = yaml.safe_dump(config.model_dump(mode="json"))
    assert parse_config(RunConfig, yaml.safe_load(text), where="config.yaml") == config


def test_the_published_recipes_are_the_published_settings() -> None:
    hstu, sasrec = load_config("ml-1m/hstu"), load_config("ml-1m/sasrec")
    assert (hstu.model.kind, hstu.model.relative_bias) == ("hstu", "both")
    assert (sasrec.model.kind, sasrec.model.relative_bias) == ("sasrec", "none")
    for config in (hstu, sasrec):
        assert (config.model.blocks, config.model.dim, config.model.max_length) == (2, 50, 200)
        assert (config.loss.kind, config.loss.temperature) == ("sampled_softmax", 0.05)
        assert (config.loss.negatives.count, config.loss.negatives.sharing) == (128, "position")
        assert (config.optimizer.learning_rate, config.optimizer.betas) == (1e-3, (0.9, 0.98))
        assert (config.train.batch_sequences, config.train.epochs) == (128, 101)


def test_the_default_recipe_is_the_defaults() -> None:
    assert load_config() == RunConfig()


def test_the_published_recipes_take_none_of_what_came_later() -> None:
    for name in ("ml-1m/hstu", "ml-1m/sasrec"):
        config = load_config(name)
        assert (config.train.accumulate, config.train.devices, config.train.patience) == (1, 1, None)
        assert (config.optimizer.item_table, config.optimizer.decay_on) == ("adamw", "all")
        assert (config.optimizer.schedule, config.optimizer.warmup_steps) == ("constant", 0)
        assert not config.train.compile


def test_settings_are_changed_by_name() -> None:
    config = load_config(
        "demo/hstu",
        [
            "model.blocks=3",
            "loss.kind=sampled_softmax",
            "loss.negatives.count=7",
            "evaluation.exclude_seen=false",
        ],
    )
    assert config.model.blocks == 3
    assert config.loss.negatives.count == 7
    assert config.evaluation.exclude_seen is False
    assert config.model.dim == load_config("demo/hstu").model.dim


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        load_recipe("ml-1m/hsut")
    assert "ml-1m/hstu" in str(caught.value)


def test_a_recipe_can_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: {blocks: 5}")
    assert load_config(file).model.blocks == 5
    with pytest.raises(UserError, match="no file"):
        load_recipe(tmp_path / "other.yaml")


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("model.block=3", "blocks"),
        ("train.select_by=ndcg@20", "ndcg@10"),
        ("train.epochs=0", "train.epochs"),
        ("model.kind=transformer", "hstu"),
        ("train.devices=0", "train.devices"),
        ("optimizer.schedule=exponential", "inverse_sqrt"),
        ("train.accumulate=3", "multiple of accumulate"),
    ],
)
def test_a_wrong_setting_says_what_is_right(setting: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config("default", [setting])
    assert hint in str(caught.value)


def test_a_wrong_key_in_a_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("optimiser: {learning_rate: 1}")
    with pytest.raises(UserError) as caught:
        load_config(file)
    assert "optimizer" in str(caught.value)
    assert "mine.yaml" in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_said() -> None:
    with pytest.raises(UserError, match="no CUDA device"):
        pick_device("cuda")
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")


def test_settings_are_checked_without_torch() -> None:
    code = (
        "import sys; from models.config import load_config; load_config('ml-1m/hstu'); print([*sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "models.backbones.config" in found.stdout
    for name in ("torch", "numba", "pyarrow", "lightning"):
        assert f"'{name}'" not in found.stdout, name
