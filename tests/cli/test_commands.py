"""Every command does its work, prints JSON for machines, and explains itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import cli.warm
import models
from behavior.runtime.cores import POOLS, THREADS
from behavior.shards.folder import open_shards
from tests.cli.conftest import SMALL, Lrm

HEAVY = ("torch", "apache_beam", "numba", "lightning", "matplotlib")
COMMANDS = ("inspect", "prepare", "train", "evaluate", "similar", "embed", "export", "demo", "doctor")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(lrm: Lrm, command: str) -> None:
    found = lrm(command, "--help")
    assert found.code == 0
    assert f"Example:  lrm {command}" in found.out


def test_help_names_every_command(lrm: Lrm) -> None:
    found = lrm("--help")
    assert found.code == 0
    assert all(command in found.out for command in COMMANDS)


def test_threads_are_told_to_all_libraries(lrm: Lrm, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (THREADS, *POOLS):
        monkeypatch.setenv(name, "1")
    assert lrm("--threads", 3, "data", "list").code == 0
    assert {os.environ[name] for name in (THREADS, *POOLS)} == {"3"}
    assert lrm("--threads", 0, "data", "list").code == 2
    monkeypatch.setenv(THREADS, "many")
    assert lrm("data", "list").code == 2


def test_usage_errors_exit_with_2(lrm: Lrm) -> None:
    for arguments in (
        ["prepare"],
        ["nonsense"],
        ["train", "--epochs", "many"],
        ["evaluate", "x", "--split", "all"],
    ):
        assert lrm(*arguments).code == 2, arguments


def test_prepare_and_inspect(lrm: Lrm, raw: Path, tmp_path: Path) -> None:
    found = lrm("prepare", raw / "spec.yaml", "--out", tmp_path / "out", "--json")
    assert found.code == 0, found.err
    record = json.loads(found.out)
    assert record["counts"]["read"] == record["counts"]["accepted"] == 2400
    assert not record["done_before"]
    assert json.loads(lrm("prepare", raw / "spec.yaml", "--out", tmp_path / "out", "--json").out)[
        "done_before"
    ]
    summary = json.loads(lrm("inspect", tmp_path / "out", "--json").out)
    assert summary["counts"] == record["counts"]
    assert sum(summary["stats"]["behaviors"].values()) == 2400
    assert len(summary["top_items"]) == 10
    text = lrm("inspect", tmp_path / "out").out
    assert "small" in text
    assert "2,400" in text


def test_inspect_proposes_a_spec_that_prepares(lrm: Lrm, raw: Path, tmp_path: Path) -> None:
    saved = tmp_path / "proposed.yaml"
    found = lrm("inspect", raw / "part-1.csv", "--save", saved)
    assert found.code == 0, found.err
    spec = yaml.safe_load(saved.read_text())
    assert spec["events"]["columns"] == {"user": "user", "item": "item", "timestamp": "time"}
    assert spec["timestamp_unit"] == "???"  # 1000 to 1200 may be anything
    wrong = lrm("prepare", saved, "--out", tmp_path / "out")
    assert (wrong.code, "still ??? at timestamp_unit" in wrong.err) == (1, True)
    spec["timestamp_unit"] = "s"
    saved.write_text(yaml.safe_dump(spec))
    assert lrm("prepare", saved, "--out", tmp_path / "out").code == 0
    assert open_shards(tmp_path / "out").manifest.counts.events == 2400


def test_train_evaluate_and_resume(lrm: Lrm, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = [
        "train",
        "--data",
        shards,
        "--backbone",
        "sasrec",
        "--out",
        out,
        "--seed",
        3,
        *SMALL,
        "--json",
    ]
    found = lrm(*arguments, "--epochs", 1)
    assert found.code == 0, found.err
    assert json.loads(found.out)["epochs"] == 1
    assert list((out / "curves").glob("*.png"))
    again = lrm(*arguments, "--epochs", 2)
    assert again.code == 1
    assert "--resume" in again.err
    assert json.loads(lrm(*arguments, "--epochs", 2, "--resume").out)["epochs"] == 2
    result = json.loads(lrm("evaluate", out, "--split", "valid", "--json").out)
    assert result["users"] > 0
    assert result["time"] == "known"
    assert result["model"] == "sasrec"
    for name in ("ndcg@10", "hr@10", "mrr@10", "ndcg@200"):
        assert 0 <= result[name] <= 1


def test_evaluate_shows_baselines_beside_the_model(lrm: Lrm, run: Path) -> None:
    found = lrm("evaluate", run, "--baselines", "--json")
    assert found.code == 0, found.err
    record = json.loads(found.out)
    assert {"popularity", "markov", "frequency", "cooccurrence"} <= set(record["baselines"])
    assert all(row["users"] == record["users"] for row in record["baselines"].values())
    text = lrm("evaluate", run, "--baselines").out
    assert "popularity" in text
    assert "time known" in text
    assert f"{record['users']:,} users, {record['targets']:,} targets" in text


def test_doctor_tells_why_kernels_do_not_work(lrm: Lrm) -> None:
    record = json.loads(lrm("doctor", "--json").out)
    assert record["kernels"]["reference"] == {"usable": True, "reasons": []}
    for name in ("triton", "xformers"):
        row = record["kernels"][name]
        assert row["usable"] == (not row["reasons"])
    assert record["versions"]["torch"]
    assert record["device"]["precision"] == "32-true" or record["device"]["cuda"]
    assert record["runners"]["DaskRunner"].startswith("refused")
    assert lrm("doctor").code == 0


def test_doctor_compiles_ahead_once(
    lrm: Lrm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training has tests of its own: here the recipes need only be there."""
    for recipe, changes in cli.warm._TRAINED:
        models.load_config(recipe, [*cli.warm._SMALL, *changes])
    monkeypatch.setattr(cli.warm, "_TRAINED", [])
    cli.warm.warm(json=False)
    assert "compiled for preparing, training and evaluating" in capsys.readouterr().out
    cli.warm.warm(json=True)
    record = json.loads(capsys.readouterr().out)
    assert (record["compiled"], record["training"]) == (0, True)
    assert "--warm looks at no runner" in lrm("doctor", "--warm", "--runner", "local").err


def test_resume_needs_no_settings_repeated(lrm: Lrm, run: Path, shards: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    found = lrm("train", "--data", shards, "--out", copy, "--resume", "--epochs", 3, "--json")
    assert found.code == 0, found.err
    assert json.loads(found.out)["epochs"] == 3
    # Fewer epochs than were trained: there is nothing to do, and the run's record stays true.
    again = lrm("train", "--data", shards, "--out", copy, "--resume", "--epochs", 1, "--json")
    assert json.loads(again.out)["epochs"] == 3
    assert yaml.safe_load((copy / "config.yaml").read_text())["train"]["epochs"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--help"], "Train a model on a shard folder"),
        (["train", "--data", "x", "--out", "y", "--set", "model.block=4"], "did you mean 'blocks'?"),
        (
            ["train", "--data", "x", "--out", "y", "--resume", "--recipe", "non"],
            "'non' is neither a file nor a ready recipe",
        ),
        (["ablate"], "ml-1m/bias"),
    ],
)
def test_what_needs_no_torch_does_not_wait_for_it(arguments: list[str], message: str) -> None:
    code = f"""
import sys
from cli.main import main
sys.argv = ["lrm", *{arguments}]
try:
    main()
except SystemExit:
    print([name for name in {HEAVY} if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert message in found.stdout + found.stderr
    assert found.stdout.endswith("[]\n")
