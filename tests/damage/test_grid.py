"""Damaged files of a grid, met by its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.damage.mutations_json import change_file
from tests.damage.trial import Change, Trials
from tests.models.scaling.planted_grid import write_grid

TrialsOf = Callable[[Path], Trials]


@pytest.fixture(scope="module")
def good_grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed; small."""
    folder = tmp_path_factory.mktemp("grid") / "grid"
    write_grid(folder, blocks=[2])
    return folder


def one_of(pattern: str) -> Change:
    """Damage one of the files."""

    def change(folder: Path, rng: Random) -> str:
        path = rng.choice(sorted(folder.glob(pattern)))
        return change_file(path, rng, lines=path.suffix == ".jsonl")

    return change


@pytest.mark.parametrize(
    ("pattern", "seeds"),
    [
        ("results/*.json", 8),
        ("runs/*/summary.json", 8),
        ("runs/*/metrics.jsonl", 8),
        ("failures/*.json", 5),
        ("calls/*.json", 5),
    ],
)
def test_report(pattern: str, seeds: int, trials_of: TrialsOf, good_grid: Path, tmp_path: Path) -> None:
    trials = trials_of(good_grid)
    page = tmp_path / "page" / "page.html"
    trials.run(seeds, one_of(pattern), "report", "DATA", "--html", page, "--replicates", 2)
    trials.check()
