"""`lrm ablate`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from tests.cli.conftest import SMALL, Lrm


def table(folder: Path) -> Path:
    path = folder / "mine.yaml"
    path.write_text("title: two models\nseeds: [0, 1]\nrows:\n  hstu:\n  llama: {model.kind: llama}\n")
    return path


def test_runs_once_and_shows_the_table(lrm: Lrm, shards: Path, tmp_path: Path) -> None:
    arguments = ("ablate", table(tmp_path), "--data", shards, "--out", tmp_path / "runs", *SMALL)
    arguments = (*arguments, "--set", "train.epochs=1", "--metric", "mrr@10")
    outcome = lrm(*arguments)
    assert outcome.code == 0, outcome.err
    assert "two models (test split" in outcome.out
    assert "MRR@10" in outcome.out
    assert "±" in outcome.out
    lines = (tmp_path / "runs" / "results.csv").read_text().splitlines()
    assert len(lines) == 1 + 4
    again = lrm(*arguments, "--json")
    assert (tmp_path / "runs" / "results.csv").read_text().splitlines() == lines
    [found] = json.loads(again.out)["tables"]
    assert [(line["line"], line["seeds"]) for line in found["lines"]] == [("hstu", 2), ("llama", 2)]


def test_lines_that_agree_are_one_run(lrm: Lrm, shards: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(
        "title: the same\nseeds: [1]\nrows:\n  again: {model.kind: hstu}\n  gpt: {model.kind: gpt}\n"
    )
    outcome = lrm(
        "ablate", table(tmp_path), other, "--data", shards, "--out", tmp_path / "runs", *SMALL,
        "--set", "train.epochs=1", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert len((tmp_path / "runs" / "results.csv").read_text().splitlines()) == 1 + 5
    two, same = json.loads(outcome.out)["tables"]
    assert [line["line"] for line in same["lines"]] == ["again", "gpt"]
    assert [(line["seeds"], line["ndcg@10 sd"]) for line in same["lines"]] == [(1, None), (1, None)]
    assert two["lines"][0]["parameters"] == same["lines"][0]["parameters"]


def test_a_search_does_not_read_test(lrm: Lrm, shards: Path, tmp_path: Path) -> None:
    arguments = ("ablate", table(tmp_path), "--data", shards, "--out", tmp_path / "runs", *SMALL)
    arguments = (*arguments, "--set", "train.epochs=1", "--seeds", "0")
    valid = lrm(*arguments, "--split", "valid", "--json")
    assert valid.code == 0, valid.err
    with (tmp_path / "runs" / "results.csv").open(newline="") as file:
        assert [(row["test"], "ndcg@10" in row["valid"]) for row in csv.DictReader(file)] == [
            ("{}", True)
        ] * 2
    found = json.loads(valid.out)
    assert found["split"] == "valid"
    read = json.loads(lrm(*arguments, "--json").out)
    assert read["split"] == "test"
    [valid_lines], [test_lines] = ([table["lines"] for table in answer["tables"]] for answer in (found, read))
    assert [line["ndcg@10"] for line in valid_lines] != [line["ndcg@10"] for line in test_lines]


def test_lists_the_tables(lrm: Lrm) -> None:
    assert "ml-1m/bias" in lrm("ablate").out


def test_errors_say_what_to_do(lrm: Lrm, shards: Path, tmp_path: Path) -> None:
    assert "--data" in lrm("ablate", "ml-1m/bias").err
    wrong = lrm("ablate", table(tmp_path), "--data", shards, "--metric", "ndgc@10")
    assert wrong.code == 2
    assert "no metric 'ndgc@10'" in wrong.err
    wrong = lrm("ablate", table(tmp_path), "--data", shards, "--seeds", "a")
    assert wrong.code == 2
    assert "are not seeds" in wrong.err
