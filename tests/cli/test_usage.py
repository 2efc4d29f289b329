"""A wrong command line: exit code 2, blamed on the flag that is wrong; errors as JSON; what 130 is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from behavior.errors import UsageError
from tests.cli.conftest import SMALL, Lrm

TRAIN = ["train", "--data", "x", "--out", "y"]


@pytest.mark.parametrize(
    ("arguments", "where", "said"),
    [
        ([*TRAIN, "--devices", "0"], "--devices", "greater than or equal to 1 (got 0)"),
        ([*TRAIN, "--devices", "two"], "--devices", "'train.devices'"),
        ([*TRAIN, "--epochs", "0", "--set", "model.dim=8"], "--epochs", "'train.epochs'"),
        ([*TRAIN, "--backbone", "bert4rec"], "--backbone", "known: fuxi, gpt, hstu"),
        ([*TRAIN, "--batch-tokens", "0"], "--batch-tokens", "'train.batch_tokens'"),
        ([*TRAIN, "--seed", "-1"], "--seed", "'train.seed'"),
        ([*TRAIN, "--epochs", "3", "--set", "train.epochs=0"], "--epochs, --set train.epochs", "twice"),
        (
            [*TRAIN, "--set", "model.dim=8", "--set", "blocks=3"],
            "--set blocks=3",
            "did you mean 'model.blocks'?",
        ),
        ([*TRAIN, "--set", "model.dimension=8"], "--set model.dimension=8", "did you mean 'dim'?"),
        ([*TRAIN, "--set", "model.learning_rate=1"], "--set", "did you mean 'optimizer.learning_rate'?"),
        ([*TRAIN, "--set", "blocks"], "--set", "write key.key=value"),
        (
            [*TRAIN, "--batch-tokens", "9", "--batch-sequences", "9"],
            "--batch-sequences, --batch-tokens",
            "not both",
        ),
        (["prepare", "ml-1m", "--out", "y", "--full"], "--full", "--append"),
        (["prepare", "ml-1m", "--out", "y", "--append", "x", "--overwrite"], "--append", "leave one out"),
        (["prepare", "ml-1m", "--input", ".", "--out", "y", "--max-rejects", "few"], "--max-rejects", "1%"),
        (
            ["prepare", "ml-1m", "--input", ".", "--out", "y", "--runner", "SparkRuner"],
            "--runner",
            "did you mean",
        ),
        (["inspect", ".", "--save", "x.yaml"], "--save", "raw file"),
        (["inspect", ".", "--png", "x.gif"], "--png", ".png"),
        (["ablate", "ml-1m/bias"], "--data", "shard folder"),
        (["ablate", "ml-1m/bias", "--data", "x", "--seeds", "a"], "--seeds", "0,1,2"),
        (["ablate", "ml-1m/bias", "--data", "x", "--set", "modell.dim=3"], "--set modell.dim=3", "'model'"),
        (["data", "fetch", "kuairand", "--out", "y", "--variant", "Puree"], "--variant", "'Pure'"),
        (["train", "--data", "x"], "lrm train", "--out"),
        ([*TRAIN, "--epoch", "3"], "lrm train", "--epochs"),
        (["evaluate", "x", "--split", "train"], "lrm evaluate", "--split"),
        (["nonsense"], "lrm", "nonsense"),
    ],
)
def test_wrong_use_is_2_and_names_the_flag(lrm: Lrm, arguments: list[str], where: str, said: str) -> None:
    found = lrm(*arguments)
    assert found.code == 2, found.err
    assert f"where: {where}" in found.err
    assert said in found.err
    assert found.out == ""
    as_json = lrm(*arguments, "--json")
    record = json.loads(as_json.out)
    assert (as_json.code, record["exit_code"], set(record["error"])) == (2, 2, {"what", "where", "fix"})
    assert f"error: {record['error']['what']}" in as_json.err


def test_what_can_be_put_right_is_1_as_json_too(lrm: Lrm, tmp_path: Path) -> None:
    found = lrm("inspect", tmp_path / "none.csv", "--json")
    record = json.loads(found.out)
    assert (found.code, record["exit_code"]) == (1, 1)
    assert "there is no file" in record["error"]["what"]
    assert lrm("prepare", "ml-1", "--out", tmp_path / "out").code == 1
    assert lrm("train", "--data", tmp_path, "--out", tmp_path / "run", "--recipe", "ml-1m/hsut").code == 1


def test_interrupted_is_130(lrm: Lrm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(path: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("behavior.guess.files.guess_files", interrupted)
    found = lrm("inspect", tmp_path / "x.csv", "--json")
    assert found.code == 130
    assert json.loads(found.out)["exit_code"] == 130
    assert found.err.startswith("interrupted")
    assert lrm("inspect", tmp_path / "x.csv").code == 130


def test_codes_are_documented(lrm: Lrm) -> None:
    for code in ("0 success", "1 an error", "2 a wrong command line", "130 interrupted"):
        assert code in lrm("--help").out
    assert lrm("--version").code == 0
    assert issubclass(UsageError, Exception)


def test_a_recipe_of_another_backbone_is_said(lrm: Lrm, shards: Path, tmp_path: Path) -> None:
    train = ["train", "--data", shards, "--epochs", 1, "--set", "loss.negatives.count=4", *SMALL]
    found = lrm(
        *train,
        "--out",
        tmp_path / "a",
        "--recipe",
        "ml-1m/hstu",
        "--backbone",
        "sasrec",
        "--set",
        "model.heads=1",
    )
    assert found.code == 0, found.err
    assert (
        "warning: recipe ml-1m/hstu is for hstu; --backbone sasrec keeps all of its other settings"
        in found.err
    )
    assert "ml-1m/sasrec" in found.err
    same = lrm(*train, "--out", tmp_path / "b", "--recipe", "ml-1m/hstu", "--backbone", "hstu")
    assert "warning: recipe" not in same.err
