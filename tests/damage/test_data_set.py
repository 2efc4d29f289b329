"""Damaged files of a data set: the right answer, or an error that helps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.damage.conftest import TINY
from tests.damage.mutations_json import change_file
from tests.damage.mutations_parquet import change_parquet
from tests.damage.trial import Change, Trials, enter

TrialsOf = Callable[[Path], Trials]
FILES = (
    *("manifest.json", "stats.json", "buckets.json"),
    *("items.parquet", "sequences", "vocabulary", "users.parquet"),
)


def damage(name: str) -> Change:
    """Damage a file, or one of a folder, whose checksum is right afterwards."""

    def change(folder: Path, rng: Random) -> str:
        path = folder / name
        if path.is_dir():
            path = rng.choice(sorted(path.iterdir()))
        words = change_parquet(path, rng) if path.suffix == ".parquet" else change_file(path, rng)
        if name != "manifest.json":
            enter(folder, path.relative_to(folder).as_posix())
        return words

    return change


@pytest.mark.parametrize("name", FILES)
def test_inspect(name: str, trials_of: TrialsOf, good_data: Path) -> None:
    trials = trials_of(good_data)
    trials.run(12, damage(name), "inspect", "DATA")
    trials.run(6, damage(name), "inspect", "DATA", "--json")
    assert not trials.failures, "\n".join(trials.failures)


@pytest.mark.parametrize("name", FILES)
def test_train(name: str, trials_of: TrialsOf, good_data: Path) -> None:
    trials = trials_of(good_data)
    trials.run(5, damage(name), "train", "--data", "DATA", "--out", "DATA/../run", "--epochs", 1, *TINY)
    assert not trials.failures, "\n".join(trials.failures)


@pytest.mark.parametrize("name", FILES)
def test_append(name: str, trials_of: TrialsOf, good_data: Path, good_log: Path) -> None:
    trials = trials_of(good_data)
    later = good_log.parent / "later.csv.gz"
    trials.run(3, damage(name), "prepare", good_log, "--out", "DATA", "--append", later)
    assert not trials.failures, "\n".join(trials.failures)
