"""`lrm evaluate SHARDS --task ranking --baselines`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Lrm
from tests.models.rankers.world import USERS, rated

LABEL = ("--set", "task.label=value>=4")


@pytest.fixture(scope="module")
def rated_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(str(rated(tmp_path_factory.mktemp("rated")).folder))


def test_a_table_and_the_protocol(lrm: Lrm, rated_shards: Path) -> None:
    found = lrm("evaluate", rated_shards, "--task", "ranking", "--baselines", "rate,bias", *LABEL)
    assert found.code == 0, found.err
    texts = (
        "value>=4, test",
        f"{4 * USERS} rows",
        "AUC",
        "95 % by user",
        "log loss",
        "bias",
        "split temporal",
    )
    for text in (*texts, "fitted on the training parts", "bias: strength"):
        assert text in found.out, text


def test_json_and_files(lrm: Lrm, rated_shards: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", rated_shards, "--task", "ranking", "--baselines", "bias", *LABEL)
    more = (
        "--json",
        "--bootstrap",
        0,
        "--predictions",
        tmp_path / "p.csv",
        "--figures",
        tmp_path / "pictures",
    )
    record = json.loads(lrm(*arguments, *more).out)
    assert record["baselines"]["bias"]["rows"] == 4 * USERS
    assert "intervals" not in record["baselines"]["bias"]
    assert (tmp_path / "p.csv").read_text().splitlines()[
        0
    ] == '"user","item","timestamp","label","probability"'
    assert (tmp_path / "pictures" / "roc.png").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--task", "ranking", *LABEL), "add --baselines"),
        (("--task", "ranking", "--baselines", "--by", "behavior", *LABEL), "--by makes no sense"),
        (("--baselines", "--figures", "x"), "'figures' makes no sense"),
        (("--baselines", *LABEL), "--set goes with --task ranking"),
        (("--task", "ranking", "--baselines"), "task.label"),
    ],
)
def test_flags_that_do_not_go_together(
    flags: tuple[str, ...], message: str, lrm: Lrm, rated_shards: Path
) -> None:
    found = lrm("evaluate", rated_shards, *flags)
    assert found.code != 0
    assert message in " ".join(found.err.split()), found.err
