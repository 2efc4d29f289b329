"""`lrm train`: its flags, and what it shows."""

from __future__ import annotations

import json
import re
import shutil
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


def test_what_a_setting_leaves_out_is_not_called_short(lrm: Lrm, shards: Path, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "run", "--epochs", 1, "--set", "data.fraction=0.5"]
    done = lrm("train", "--data", shards, *out, *SMALL)
    assert re.search(r"sequences?, \d+ left out by data.fraction, or too short to train on", done.err)
    done = lrm("train", "--refit", tmp_path / "run", "--out", tmp_path / "refitted")
    assert "refits: trains on training and validation events (less what data.fraction leaves out)" in done.err
    done = lrm("train", "--data", shards, "--out", tmp_path / "whole", "--epochs", 1, *SMALL)
    assert "left out" not in done.err


def test_a_flag_that_is_no_setting_says_what_is(lrm: Lrm, shards: Path, tmp_path: Path) -> None:
    done = lrm("train", "--data", shards, "--out", tmp_path / "run", "--time", "tomorrow")
    assert done.code == 2
    assert "where: --time" in done.err
    assert "model.time" in done.err
    assert "'known' or 'unknown'" in done.err


def test_a_run_is_refitted_and_says_so(lrm: Lrm, run: Path, tmp_path: Path) -> None:
    done = lrm("train", "--refit", run, "--out", tmp_path / "refitted")
    assert done.code == 0, done.err
    assert "refits: trains on training and validation events" in done.err
    shown = lrm("evaluate", tmp_path / "refitted")
    assert "(refitted)" in shown.out
    assert "refitted: trained on training and validation events" in shown.out
    assert "refitted" not in lrm("evaluate", run).out
    assert "what it has seen" in lrm("evaluate", tmp_path / "refitted", "--split", "valid").err


def test_a_run_for_serving_is_trained_on_everything_and_not_evaluated(
    lrm: Lrm, run: Path, tmp_path: Path
) -> None:
    done = lrm("train", "--refit", run, "--all", "--out", tmp_path / "served")
    assert done.code == 0, done.err
    assert "nothing is left to evaluate it on" in done.out
    refused = lrm("evaluate", tmp_path / "served")
    assert refused.code == 1
    assert "every event" in refused.err


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (["--all", "--data", "x"], "--all"),
        (["--refit", "r", "--recipe", "ml-1m/hstu"], "--refit, --recipe"),
        (["--refit", "r", "--init", "r"], "--refit, --init"),
        ([], "--data"),
    ],
)
def test_flags_that_do_not_go_together(lrm: Lrm, tmp_path: Path, arguments: list[str], where: str) -> None:
    done = lrm("train", "--out", tmp_path / "run", *arguments)
    assert done.code == 2
    assert f"where: {where}" in done.err
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_knows_its_data(lrm: Lrm, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    done = lrm("train", "--out", tmp_path / "run", "--resume", "--epochs", 2)
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("minutes", "shown"),
    [(0.0, "0 min 00 s"), (1.51, "1 min 31 s"), (61.5, "1 h 01 min"), (1440, "24 h 00 min")],
)
def test_durations_are_readable(minutes: float, shown: str) -> None:
    assert duration(minutes) == shown
