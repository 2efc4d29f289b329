"""A good data set and a good run, small, with everything in them that the program can read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import lrm
from tests.damage.trial import trials_of

__all__ = ["lrm", "trials_of"]

SETTINGS = {
    "model.dim": 8,
    "model.blocks": 1,
    "model.heads": 1,
    "model.max_length": 8,
    "train.batch_sequences": 64,
    "train.device": "cpu",
    "loader.threads": 0,
    "loss.negatives.count": 4,
}
TINY = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]


@pytest.fixture(scope="session")
def good_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The spec of a log that can be appended to; its last file, `later.csv.gz`, is not in it."""
    from behavior.synthetic import SyntheticConfig, generate

    config = SyntheticConfig(users=50, items=30, interests=4, personas=3, mean_events=10.0)
    path = generate(config).write(tmp_path_factory.mktemp("damage") / "log", event_files=2)
    (path.parent / "events-2.csv.gz").rename(path.parent / "later.csv.gz")
    spec = yaml.safe_load(path.read_text())
    spec["items"]["features"][2]["transform"] = "none"
    spec["shards"] = 2
    path.write_text(yaml.safe_dump(spec))
    return path


@pytest.fixture(scope="session")
def good_data(good_log: Path) -> Path:
    """The data set of that log; not to be changed."""
    from behavior import prepare

    return Path(str(prepare(good_log, good_log.parent.parent / "data").folder))


@pytest.fixture(scope="session")
def good_run(good_data: Path) -> Path:
    """A folder with a copy of it, `data`, and a run of one epoch on it, `run`; not to be changed."""
    import shutil

    from models.config import load_config
    from models.training import train

    both = good_data.parent / "both"
    shutil.copytree(good_data, both / "data")
    settings = [setting for setting in TINY if setting != "--set"]
    train(load_config("default", [*settings, "train.epochs=1"]), both / "data", both / "run")
    return both
