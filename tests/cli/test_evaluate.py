"""`lrm evaluate`: what it prints, and what it writes."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from behavior.shards.folder import open_shards
from tests.cli.conftest import SMALL, Lrm


@pytest.fixture(scope="module")
def other(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second run on the same data; not to be changed."""
    from models.config import load_config
    from models.training import train

    out = tmp_path_factory.mktemp("runs") / "other"
    settings = [setting for setting in SMALL if setting != "--set"]
    train(load_config("default", [*settings, "model.kind=sasrec", "train.epochs=1"]), shards, out)
    return out


def test_the_protocol_stands_beside_the_numbers(lrm: Lrm, run: Path, shards: Path) -> None:
    found = lrm("evaluate", run)
    assert found.code == 0, found.err
    items = open_shards(shards).num_items
    for text in (
        "time known",
        "seen items kept",
        f"{items:,} candidates",
        "split leave_one_out, the first target of a user",
        "best checkpoint, after",
        "95 %",
    ):
        assert text in found.out, text
    assert "seen items removed" in lrm("evaluate", run, "--exclude-seen").out


def test_every_mean_has_an_interval_unless_none_is_wanted(lrm: Lrm, run: Path) -> None:
    record = json.loads(lrm("evaluate", run, "--json").out)
    for name, (low, high) in record["intervals"].items():
        assert low <= record[name] <= high
    assert set(record["intervals"]) == {name for name in record if "@" in name}
    without = json.loads(lrm("evaluate", run, "--bootstrap", 0, "--json").out)
    assert without == {name: value for name, value in record.items() if name != "intervals"}
    assert "95 %" not in lrm("evaluate", run, "--bootstrap", 0).out


def test_results_by_slices(lrm: Lrm, run: Path) -> None:
    arguments = ("evaluate", run, "--by", "behavior", "--by", "popularity", "--baselines")
    record = json.loads(lrm(*arguments, "--json").out)
    assert set(record["breakdown"]) == {"behavior", "popularity"}
    for parts in record["breakdown"].values():
        assert sum(part["targets"] for part in parts.values()) == record["targets"]
    assert set(record["baselines"]["markov"]["breakdown"]) == {"behavior", "popularity"}
    text = lrm(*arguments).out
    assert "by popularity" in text
    for name in record["breakdown"]["behavior"]:
        assert name in text
    wrong = lrm("evaluate", run, "--by", "popularty")
    assert wrong.code == 1
    assert "popularity" in wrong.err


def test_two_runs_are_compared(lrm: Lrm, run: Path, other: Path) -> None:
    record = json.loads(lrm("evaluate", run, "--against", other, "--json").out)
    theirs = json.loads(lrm("evaluate", other, "--json").out)
    assert record["comparison"]["against"] == str(other)
    assert record["comparison"]["model"] == "sasrec"
    for name, row in record["comparison"]["metrics"].items():
        assert (row["ours"], row["theirs"]) == pytest.approx((record[name], theirs[name]))
    # The protocol is that of the first run, whatever the second was trained with.
    removed = json.loads(lrm("evaluate", run, "--against", other, "--exclude-seen", "--json").out)
    theirs = json.loads(lrm("evaluate", other, "--exclude-seen", "--json").out)
    for name, row in removed["comparison"]["metrics"].items():
        assert row["theirs"] == pytest.approx(theirs[name])
    text = lrm("evaluate", run, "--against", other).out
    assert f"against {other} (sasrec, time known)" in text
    assert "resamples below 0" in text


def test_ranks_of_users_are_written(lrm: Lrm, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "ranks.parquet"
    record = json.loads(lrm("evaluate", run, "--per-user", path, "--json").out)
    table = pq.read_table(path)
    assert table.num_rows == record["targets"]
    found = [rank is not None and rank <= 10 for rank in table["rank"].to_pylist()]
    assert sum(found) / len(found) == pytest.approx(record["hr@10"])  # one target a user
    nowhere = lrm("evaluate", run, "--per-user", tmp_path / "no" / "ranks.parquet")
    assert nowhere.code == 1
    assert "there is no folder" in nowhere.err


@pytest.mark.parametrize(("name", "delimiter"), [("ranks.csv", ","), ("ranks.TSV", "\t")])
def test_ranks_of_users_as_text(lrm: Lrm, run: Path, tmp_path: Path, name: str, delimiter: str) -> None:
    assert lrm("evaluate", run, "--per-user", tmp_path / name).code == 0
    assert lrm("evaluate", run, "--per-user", tmp_path / "ranks.parquet").code == 0
    expected = pq.read_table(tmp_path / "ranks.parquet")
    with (tmp_path / name).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter=delimiter))
    assert list(rows[0]) == expected.column_names
    for column in ("user", "item", "rank"):
        texts = ["" if value is None else str(value) for value in expected[column].to_pylist()]
        assert [row[column] for row in rows] == texts
    wrong = lrm("evaluate", run, "--per-user", tmp_path / "ranks.json")
    assert wrong.code == 2
    assert "let the name end in .parquet, .csv or .tsv" in wrong.err


def test_a_data_set_that_has_moved(lrm: Lrm, shards: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(shards, here)
    assert lrm("train", "--data", here, "--out", tmp_path / "run", "--epochs", 1, *SMALL).code == 0
    here.rename(there)
    found = lrm("evaluate", tmp_path / "run")
    assert found.code == 1
    assert f"there is no folder '{here}'" in found.err
    assert "to do: if it has moved, say where it is now: --data DIR" in found.err
    assert lrm("evaluate", tmp_path / "run", "--data", there).code == 0
