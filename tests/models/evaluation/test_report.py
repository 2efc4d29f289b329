"""Reports, comparisons and the table of ranks, on a few readable rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from behavior.shards.write import write_table
from models.data.loading import ShardSource
from models.evaluation.config import EvaluationConfig
from models.evaluation.ranking import rank_split
from models.evaluation.rankings_table import write_rankings
from models.evaluation.report import RankingEvaluation, compare
from models.evaluation.scores import RowScores
from tests.models.shards import User, World, write_shards

CONFIG = EvaluationConfig(cutoffs=[1, 2], exclude_seen=True)
WORLD = World(
    num_items=4,
    behaviors=("view", "buy"),
    targets=("buy",),
    files=2,
    split={"kind": "temporal", "targets": "all", "valid_at": "2024-06-01", "test_at": "2024-07-01"},
)
# Two tested buys each; an unknown item; a repeat, which is excluded; a user without a test, one without a
# history.
USERS = [
    User([2, 3, 4, 5], 1, 2, behavior=[2, 1, 2, 2]),
    User([3, 1, 3, 2], 1, 2, behavior=[2, 1, 2, 2]),
    User([2, 3], 2, 2, behavior=[2, 2]),
    User([5, 1], 0, 0, behavior=[1, 2]),
    User([4], 0, 0, behavior=[2]),
]


def judge(folder: Path, scores: list[float], config: EvaluationConfig = CONFIG) -> RankingEvaluation:
    shards = open_shards(folder)
    rankings = rank_split(
        ShardSource(shards),
        lambda _, targets: RowScores(torch.tensor([scores]).expand(len(targets), -1)),
        split="test",
        config=config,
    )
    return RankingEvaluation.of(rankings, config, shards, {"model": "fixed", "time": "known"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data"), USERS, WORLD)


def test_a_temporal_split_by_hand(folder: Path) -> None:
    """Later targets of a user have the earlier ones in their history: they are seen, and no rivals."""
    evaluation = judge(folder, [4.0, 3.0, 2.0, 1.0])  # items 2, 3, 4, 5
    report = evaluation.report()
    # User 0: item 4 is behind 3, and so is 5, without 4. User 1: item 3 was bought before, and 2 leads.
    # User 3: an unknown item.
    assert evaluation.rankings.rank.tolist() == [2, 2, float("inf"), 1, float("inf")]
    assert (report["hr@1"], report["hr@2"]) == pytest.approx((1 / 2 / 3, (1 + 1 / 2) / 3))
    assert {name: report[name] for name in ("users", "targets", "oov_targets", "excluded_targets")} == {
        "users": 3,
        "targets": 5,
        "oov_targets": 1,
        "excluded_targets": 1,
    }
    assert (report["users_without_history"], report["targets_without_history"]) == (1, 1)


def test_a_report_says_how_the_data_are_split_and_what_ranked(folder: Path, tmp_path: Path) -> None:
    report = judge(folder, [1.0] * 4).report()
    assert (report["split"], report["split_kind"], report["split_targets"]) == ("test", "temporal", "all")
    assert (report["valid_at"], report["test_at"]) == ("2024-06-01", "2024-07-01")
    assert (report["model"], report["exclude_seen"]) == ("fixed", True)
    other = replace(WORLD, split={"kind": "leave_one_out"})
    report = judge(write_shards(tmp_path / "other", USERS, other), [1.0] * 4).report()
    assert (report["split_kind"], report["split_targets"]) == ("leave_one_out", "first")
    assert "valid_at" not in report


def test_intervals_and_slices_are_there_where_they_are_asked_for(folder: Path) -> None:
    report = judge(folder, [1.0] * 4, CONFIG.model_copy(update={"bootstrap": 0})).report()
    assert "intervals" not in report
    assert "breakdown" not in report
    report = judge(folder, [1.0, 2.0, 3.0, 4.0], CONFIG.model_copy(update={"by": ["behavior"]})).report()
    assert set(report["intervals"]) == {name for name in report if "@" in name}
    low, high = report["intervals"]["hr@2"]
    assert low <= report["hr@2"] <= high
    part = report["breakdown"]["behavior"]["buy"]
    assert {name: part[name] for name in part if name != "intervals"} == {
        name: report[name]
        for name in ("targets", "users", "oov_targets", "excluded_targets", *report["intervals"])
    }
    assert part["intervals"] == report["intervals"]


def test_a_comparison_is_made_of_the_two_reports(folder: Path) -> None:
    ours, theirs = judge(folder, [4.0, 3.0, 2.0, 1.0]), judge(folder, [1.0, 2.0, 3.0, 4.0])
    found = compare(ours, theirs)
    assert (found["model"], found["time"]) == ("fixed", "known")
    for name, row in found["metrics"].items():
        assert (row["ours"], row["theirs"]) == pytest.approx((ours.report()[name], theirs.report()[name]))
        assert row["difference"] == pytest.approx(row["ours"] - row["theirs"])
        assert row["interval"][0] <= row["difference"] <= row["interval"][1]
    same = compare(ours, ours)["metrics"]["hr@2"]
    assert (same["difference"], same["interval"], same["share_below_zero"]) == (0, [0, 0], 0)


def test_only_the_same_targets_are_compared(folder: Path, tmp_path: Path) -> None:
    other = judge(write_shards(tmp_path / "other", USERS[1:], WORLD), [1.0] * 4)
    with pytest.raises(UserError, match="same targets"):
        compare(judge(folder, [1.0] * 4), other)


def test_the_table_of_ranks_speaks_in_ids_of_the_log(folder: Path, tmp_path: Path) -> None:
    evaluation = judge(folder, [4.0, 3.0, 2.0, 1.0])
    write_rankings(evaluation, tmp_path / "ranks.parquet")
    table = pq.read_table(tmp_path / "ranks.parquet")
    assert table.to_pydict() == {
        "user": [0, 0, 1, 1, 3],
        "item": [4, 5, 3, 2, None],
        "behavior": ["buy"] * 5,
        "position": [2, 3, 2, 3, 1],
        "history": [2, 3, 2, 3, 1],
        "rank": [2, 2, None, 1, None],
        "earlier": [None, None, "buy", None, None],
    }
    with pytest.raises(UserError, match="cannot write"):
        write_rankings(evaluation, tmp_path / "nowhere" / "ranks.parquet")


def test_users_of_separate_domains_are_named_with_their_domain(tmp_path: Path) -> None:
    shards = open_shards(write_shards(tmp_path / "data", USERS, WORLD))
    files = []
    for entry in shards.manifest.files:
        if entry.path.startswith("sequences/"):
            table = shards.read_sequences(entry)
            names = pa.array([f"u{user}" for user in table["user"].to_pylist()])
            domain = pa.array([1 + user % 2 for user in table["user"].to_pylist()], pa.int8())
            table = table.set_column(0, "user", names).append_column("user_domain", domain)
            entry = write_table(table, shards.folder, entry.path, events=entry.events)
        files.append(entry)
    changes = {"files": files, "domains": ["books", "games"], "domain_ids": {"users": "separate"}}
    shards.manifest.model_copy(update=changes).save(shards.folder)
    write_rankings(judge(tmp_path / "data", [1.0] * 4), tmp_path / "ranks.parquet")
    table = pq.read_table(tmp_path / "ranks.parquet", columns=["user", "user_domain"])
    assert table["user"].to_pylist() == ["u0", "u0", "u1", "u1", "u3"]
    assert table["user_domain"].to_pylist() == ["books", "books", "games", "games", "games"]
