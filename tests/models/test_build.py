"""Models from settings and data."""

from __future__ import annotations

from pathlib import Path

import pytest

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.build import build_task
from models.config import load_config
from tests.models.training.training_runs import circle


@pytest.mark.parametrize("dim", [2**44, 2**61, 10**30])
def test_a_model_that_no_memory_holds_is_an_error(dim: int, tmp_path: Path) -> None:
    shards = open_shards(circle(tmp_path / "data"))
    config = load_config("default", [f"model.dim={dim}"])
    with pytest.raises(UserError, match="does not fit into memory") as caught:
        build_task(config, shards)
    assert f"model.dim = {dim}" in str(caught.value.where)
