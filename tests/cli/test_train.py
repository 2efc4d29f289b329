"""`lrm train`: its flags, and what it shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.progress import duration
from models.runs.run_folder import open_run
from tests.cli.conftest import SMALL, Lrm


def test_flags_are_settings(lrm: Lrm, shards: Path, tmp_path: Path) -> None:
    done = lrm(
        "train", "--data", shards, "--out", tmp_path / "run", "--epochs", 1, "--time", "unknown",
        "--devices", "1", "--json", *SMALL,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert json.loads(done.out)["best_valid"]["time"] == "unknown"
    settings = open_run(tmp_path / "run").settings()
    assert (settings["model"]["time"], settings["train"]["devices"]) == ("unknown", 1)


def test_validations_say_whether_the_time_was_known(lrm: Lrm, shards: Path, tmp_path: Path) -> None:
    done = lrm("train", "--data", shards, "--out", tmp_path / "run", "--epochs", 1, *SMALL)
    assert "time known" in done.err
    assert "(stopped by epochs)" in done.out


def test_a_flag_that_is_no_setting_says_what_is(lrm: Lrm, shards: Path, tmp_path: Path) -> None:
    done = lrm("train", "--data", shards, "--out", tmp_path / "run", "--time", "tomorrow")
    assert done.code == 2
    assert "where: --time" in done.err
    assert "model.time" in done.err
    assert "'known' or 'unknown'" in done.err


@pytest.mark.parametrize(
    ("minutes", "shown"),
    [(0.0, "0 min 00 s"), (1.51, "1 min 31 s"), (61.5, "1 h 01 min"), (1440, "24 h 00 min")],
)
def test_durations_are_readable(minutes: float, shown: str) -> None:
    assert duration(minutes) == shown
