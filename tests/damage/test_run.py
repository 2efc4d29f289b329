"""Damaged files of a run, and of the data set that it was trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.damage.mutations_json import change_file
from tests.damage.mutations_safetensors import change_safetensors
from tests.damage.test_data_set import damage
from tests.damage.trial import Change, Trials

TrialsOf = Callable[[Path], Trials]


def run_file(name: str) -> Change:
    """Damage a file of the run."""

    def change(folder: Path, rng: Random) -> str:
        path = folder / "run" / name
        if path.suffix == ".safetensors":
            return change_safetensors(path, rng)
        return change_file(path, rng, lines=path.suffix == ".jsonl")

    return change


@pytest.mark.parametrize(("name", "seeds"), [("run.json", 8), ("checkpoints/best.safetensors", 15)])
def test_evaluate(name: str, seeds: int, trials_of: TrialsOf, good_run: Path) -> None:
    trials = trials_of(good_run)
    trials.run(seeds, run_file(name), "evaluate", "DATA/run", "--data", "DATA/data", "--json")
    trials.check()


@pytest.mark.parametrize(
    ("name", "seeds"), [("run.json", 4), ("metrics.jsonl", 6), ("checkpoints/last.safetensors", 15)]
)
def test_resume(name: str, seeds: int, trials_of: TrialsOf, good_run: Path) -> None:
    trials = trials_of(good_run)
    resume = ("train", "--data", "DATA/data", "--out", "DATA/run", "--resume", "--epochs", 2)
    trials.run(seeds, run_file(name), *resume)
    trials.check()


@pytest.mark.parametrize("name", ["manifest.json", "items.parquet", "sequences"])
def test_evaluate_on_damaged_data(name: str, trials_of: TrialsOf, good_run: Path) -> None:
    def change(folder: Path, rng: Random) -> str:
        return damage(name)(folder / "data", rng)

    trials = trials_of(good_run)
    trials.run(6, change, "evaluate", "DATA/run", "--data", "DATA/data", "--json")
    trials.check()
