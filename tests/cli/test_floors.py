"""`lrm evaluate`: floors beside a run and on shards alone, and whether a model is below one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.evaluate_command import with_names
from models.evaluation.baselines import BASELINES
from tests.cli.conftest import SMALL, Lrm
from tests.models.shards import World, leave_one_out, write_shards


@pytest.mark.parametrize("order", [("RUN", "--baselines"), ("--baselines", "RUN")])
def test_all_floors_beside_a_run(lrm: Lrm, run: Path, order: tuple[str, ...]) -> None:
    words = [run if word == "RUN" else word for word in order]
    record = json.loads(lrm("evaluate", *words, "--json").out)
    assert {*record["baselines"], *record["baselines_left_out"]} == set(BASELINES)
    for name, floor in record["baselines"].items():
        assert (floor["model"], floor["counts"], floor["targets"]) == (name, "train", record["targets"])
        parts = floor["repeats"]
        assert parts["repeat"]["targets"] + parts["explore"]["targets"] == record["targets"]
    assert 0 < record["baselines"]["frequency"]["chosen"]["decay"] <= 1
    text = lrm("evaluate", *words).out
    assert "baselines have counted the training parts" in text
    assert "frequency: decay " in text
    for name, why in record["baselines_left_out"].items():
        assert f"no {name}: {why}" in text


def test_some_floors_by_name(lrm: Lrm, run: Path) -> None:
    for words in (["--baselines", "markov,recency"], ["--baselines=markov", "--baselines", "recency"]):
        record = json.loads(lrm("evaluate", run, *words, "--json").out)
        assert list(record["baselines"]) == ["markov", "recency"]
    for words in (["--baselines=markof"], ["--baselines", "markof"], ["--baselines", "recency,markof"]):
        wrong = lrm("evaluate", run, *words)
        assert wrong.code == 1
        assert "did you mean 'markov'" in wrong.err
    wrong = lrm("evaluate", run, "--baselines", "nosuch")
    assert wrong.code == 1
    assert "nosuch" in wrong.err
    assert "cooccurrence" in wrong.err
    assert with_names(["--baselines", "runs/x", "--", "--baselines"]) == [
        "--baselines=all",
        "runs/x",
        "--",
        "--baselines",
    ]


def test_floors_of_shards_alone(lrm: Lrm, run: Path, shards: Path) -> None:
    """The same numbers as beside a run of the same protocol."""
    record = json.loads(lrm("evaluate", shards, "--baselines", "--json").out)
    beside = json.loads(lrm("evaluate", run, "--baselines", "--json").out)
    for floor in (*record["baselines"].values(), *beside["baselines"].values()):
        del floor["exclude_seen_reason"]  # beside a run it is as set
    assert record["baselines"] == beside["baselines"]
    assert record["data"] == str(shards)
    assert not {"model", "checkpoint", "below_floors", "hr@10"} & set(record)
    text = lrm("evaluate", shards, "--baselines", "popularity").out
    assert f"{shards}: test, {record['users']:,} users" in text
    assert "checkpoint" not in text
    counted = json.loads(lrm("evaluate", shards, "--baselines", "--counts", "train+valid", "--json").out)
    assert counted["counts"] == "train+valid"
    assert counted["baselines"]["markov"]["mrr@10"] != record["baselines"]["markov"]["mrr@10"]
    again = lrm("evaluate", shards, "--baselines", "--counts", "train+valid", "--split", "valid")
    assert again.code == 1
    assert "know what they are asked" in again.err


def test_shards_have_no_model(lrm: Lrm, run: Path, shards: Path) -> None:
    for words, what in (
        ([], "no model to evaluate"),
        (["--baselines", "--against", run], "'against' makes no sense"),
    ):
        found = lrm("evaluate", shards, *words)
        assert found.code == 1
        assert "is a data set, not a run" in found.err
        assert what in found.err
        assert "--baselines" in found.err


def test_floors_have_the_counts_of_the_model(lrm: Lrm, run: Path) -> None:
    found = lrm("evaluate", run, "--baselines", "--counts", "train+valid")
    assert found.code == 1
    assert "is no floor of it" in found.err
    assert lrm("evaluate", run, "--baselines", "popularity", "--counts", "train").code == 0


@pytest.fixture(scope="module")
def weak(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned next to nothing, where everybody has an item of their own."""
    from models.config import load_config
    from models.training import train

    folder = tmp_path_factory.mktemp("weak")
    shards = write_shards(folder / "data", leave_one_out(*([item] * 5 for item in range(2, 42))), World(40))
    settings = [setting for setting in SMALL if setting != "--set"]
    train(load_config("default", [*settings, "train.epochs=1"]), shards, folder / "run")
    return folder / "run"


def test_floors_of_a_refitted_run_know_the_validation_events_as_well(
    lrm: Lrm, run: Path, shards: Path, tmp_path: Path
) -> None:
    out = tmp_path / "refitted"
    assert lrm("train", "--refit", run, "--out", out).code == 0
    record = json.loads(lrm("evaluate", out, "--baselines", "--json").out)
    assert record["trained_on"] == "train+valid"
    alone = json.loads(lrm("evaluate", shards, "--baselines", "--counts", "train+valid", "--json").out)
    for name, floor in record["baselines"].items():
        assert floor["counts"] == "train+valid"
        assert floor["mrr@200"] == alone["baselines"][name]["mrr@200"]
    assert "baselines have counted training and validation parts" in lrm("evaluate", out, "--baselines").out


def test_a_model_below_a_floor_is_told(lrm: Lrm, weak: Path) -> None:
    """Right below the table: which, by how much, and whether intervals overlap."""
    run = weak
    record = json.loads(lrm("evaluate", run, "--baselines", "--json").out)
    below = record["below_floors"]
    wanted = {
        name
        for name, floor in record["baselines"].items()
        if any(record[metric] < floor[metric] for metric in ("ndcg@10", "hr@10"))
    }
    assert {each["floor"] for each in below} == wanted
    assert below[0]["metrics"]["ndcg@10"]["floor"] == 1.0
    assert {"recency", "frequency"} <= wanted
    for each in below:
        for name, row in each["metrics"].items():
            ours, theirs = record[name], record["baselines"][each["floor"]][name]
            (low, high), (lower, upper) = (
                report["intervals"][name] for report in (record, record["baselines"][each["floor"]])
            )
            assert row == {
                "ours": ours,
                "floor": theirs,
                "difference": ours - theirs,
                "intervals_overlap": not (high < lower or upper < low),
            }
    lines = lrm("evaluate", run, "--baselines").out.splitlines()
    table_end = next(number for number, line in enumerate(lines) if line.startswith("└"))
    row = below[0]["metrics"]["ndcg@10"]
    overlap = "intervals overlap" if row["intervals_overlap"] else "intervals are apart"
    assert lines[table_end + 1].startswith(
        f"below the floor '{below[0]['floor']}': ndcg@10 {row['ours']:.4f} against {row['floor']:.4f} "
        f"({row['difference']:+.4f}, {overlap})"
    )
    plain = lrm("evaluate", run, "--baselines", "--bootstrap", 0).out
    assert f"({row['difference']:+.4f})" in plain


def test_repeat_and_explore_targets_stand_apart(lrm: Lrm, run: Path) -> None:
    record = json.loads(lrm("evaluate", run, "--by", "repeat", "--json").out)
    assert set(record["breakdown"]["repeat"]) <= set(record["repeats"])
    text = lrm("evaluate", run).out
    assert "--baselines shows what counting alone reaches" in text
    repeat, explore = (record["repeats"][name]["targets"] for name in ("repeat", "explore"))
    assert f"targets in the user's history (repeat) or not (explore): {repeat:,} repeat" in text
    assert f"{explore:,} explore" in text
