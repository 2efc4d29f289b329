"""Models that several tests ask for recommendations."""

from __future__ import annotations

from pathlib import Path

import pytest

from models import load_model
from models.serving.load import TrainedModel
from tests.models.serving.recommend_world import prepare, run_on

RICH = (
    "loss.history=learned",
    "loss.jumps=learned",
    "loss.trends=learned",
    "embedding.behaviors=add",
    "embedding.query_behavior=add",
    "model.input_behaviors=all",
)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def rich(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """With history, jump and trend logits, told time and behavior."""
    return load_model(run_on(data, tmp_path_factory.mktemp("rich") / "run", RICH), device="cpu")


@pytest.fixture(scope="session")
def plain(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    settings = ("model.kind=sasrec", "model.time=unknown", "model.input_behaviors=target")
    return load_model(run_on(data, tmp_path_factory.mktemp("plain") / "run", settings), device="cpu")
