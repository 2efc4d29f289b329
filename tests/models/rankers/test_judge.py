"""Rankers without a backbone, fitted and judged on the rows of the models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.evaluation.actions.labels import parse_labels
from models.evaluation.actions.report import ActionEvaluation
from models.evaluation.actions.rows import labelled_rows
from models.evaluation.config import EvaluationConfig
from models.rankers.data import Fitting, RankerData
from models.rankers.evaluate import evaluate_rankers, rankers_beside
from models.rankers.floors import user_mean
from models.rankers.judge import Rankers
from tests.models.rankers.world import ITEMS, USERS, rated

LIKE = "value>=4"
FLOORS = ["rate", "user_mean", "item_mean", "bias", "factorization", "history"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardFolder:
    return rated(tmp_path_factory.mktemp("rated"))


@pytest.fixture(scope="module")
def result(shards: ShardFolder) -> dict[str, Any]:
    return evaluate_rankers(shards, names=FLOORS, settings=[f"task.label={LIKE}", "evaluation.bootstrap=50"])


def test_factorization_finds_what_means_do_not(result: dict[str, Any]) -> None:
    auc = {name: report["auc"] for name, report in result["baselines"].items()}
    assert auc["rate"] == 0.5
    assert max(auc["user_mean"], auc["item_mean"], auc["bias"]) < 0.7
    assert min(auc["factorization"], auc["history"]) > 0.85
    loss = {name: report["normalized_entropy"] for name, report in result["baselines"].items()}
    assert min(loss["factorization"], loss["history"]) < 0.75


def test_scores_are_calibrated_on_validation_rows(result: dict[str, Any]) -> None:
    for report in result["baselines"].values():
        assert report["calibration"] == pytest.approx(1.0, abs=0.12)


def test_what_is_said_of_the_protocol(result: dict[str, Any]) -> None:
    expected = {"split": "test", "users": USERS, "rows": 4 * USERS, "label": LIKE, "counts": "train"}
    assert {name: result[name] for name in expected} == expected
    assert (result["split_kind"], result["split_targets"], result["valid_at"]) == ("temporal", "all", 16)
    assert result["baselines"]["bias"]["chosen_on"] == f"{4 * USERS:,} validation rows"
    json.dumps(result)


def test_means_by_hand(shards: ShardFolder) -> None:
    """`(sum of the user's stars + strength x mean) / (events + strength)`, of training events alone."""
    [label] = parse_labels(LIKE, ["rate"])
    data = RankerData.of(shards, label)
    fitted = user_mean(Fitting(data, data.rows("train"), "train", None, {"strength": 3.0}))
    test = data.rows("test")
    stars = data.sequences.events["value"].reshape(USERS, -1)[:, :16]
    expected = (stars.sum(1) + 3.0 * stars.mean()) / 19.0
    np.testing.assert_allclose(fitted.score(test), np.repeat(expected, 4), rtol=1e-6)
    more = user_mean(Fitting.first(data).again({"strength": 3.0}))
    stars = data.sequences.events["value"].reshape(USERS, -1)[:, :20]
    np.testing.assert_allclose(
        more.score(test), np.repeat((stars.sum(1) + 3.0 * stars.mean()) / 23.0, 4), rtol=1e-6
    )


def test_no_later_event_is_known(shards: ShardFolder) -> None:
    """Fitted on the training part, floors do not see what comes later; `history` sees what is before each
    row."""
    [label] = parse_labels(LIKE, ["rate"])
    changed = RankerData.of(shards, label)
    value = changed.sequences.events["value"].copy()
    test_event = changed.events(changed.rows("test"))
    value[test_event] = 6.0 - value[test_event]
    events = {**changed.sequences.events, "value": value}
    object.__setattr__(changed.sequences, "events", events)
    for name in FLOORS:
        ours = Rankers(shards, label)
        theirs = Rankers(shards, label)
        theirs.data, theirs.first = changed, Fitting.first(changed)
        one, two = ours.judge(name).predicted, theirs.judge(name).predicted
        first = ours.rows.position == 20
        np.testing.assert_array_equal(one[first], two[first])
        assert np.array_equal(one, two) == (name != "history")


def test_counts_of_validation_parts_help(shards: ShardFolder) -> None:
    settings = [f"task.label={LIKE}", "evaluation.bootstrap=0"]
    more = evaluate_rankers(shards, names=["factorization"], settings=settings, counts="train+valid")
    less = evaluate_rankers(shards, names=["factorization"], settings=settings)
    assert more["counts"] == "train+valid"
    assert more["baselines"]["factorization"]["chosen"] == less["baselines"]["factorization"]["chosen"]
    assert more["baselines"]["factorization"]["auc"] != less["baselines"]["factorization"]["auc"]
    with pytest.raises(UserError):
        evaluate_rankers(shards, "valid", ["rate"], settings=settings, counts="train+valid")


def test_numbers_are_predicted_by_numbers(shards: ShardFolder) -> None:
    found = evaluate_rankers(shards, names=["rate", "bias", "factorization"], settings=["task.label=value"])
    rmse = {name: report["rmse"] for name, report in found["baselines"].items()}
    assert rmse["factorization"] < rmse["bias"] <= rmse["rate"] + 0.05
    assert "auc" not in found["baselines"]["bias"]


def test_files(shards: ShardFolder, tmp_path: Path) -> None:
    names = ["rate", "bias"]
    settings = [f"task.label={LIKE}", "evaluation.bootstrap=0"]
    evaluate_rankers(
        shards,
        names=names,
        settings=settings,
        predictions=tmp_path / "p.parquet",
        figures=tmp_path / "pictures",
    )
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column_names == ["model", "user", "item", "timestamp", "label", "probability"]
    assert table.num_rows == 2 * 4 * USERS
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["calibration.png", "roc.png"]


def test_leave_one_out_judges_one_row_a_user(tmp_path: Path) -> None:
    shards = rated(tmp_path, "leave_one_out")
    [label] = parse_labels(LIKE, ["rate"])
    rankers = Rankers(shards, label, evaluation=EvaluationConfig(bootstrap=0, known_only=True))
    assert len(rankers.rows) == USERS
    assert rankers.rows.position.tolist() == [20] * USERS
    assert "gauc" not in rankers.judge("bias").report()
    assert shards.num_items == ITEMS


@pytest.mark.parametrize(
    ("settings", "names", "message"),
    [
        ([], None, "nobody says what is to be predicted"),
        (["task.label=buy"], ["bias"], "no behavior 'buy'"),
        (["task.label=value>=4"], ["biass"], "no ranking baseline 'biass'"),
        (["rankers.dims=4"], None, "dims"),
        (["task.label=[value>=4, value>=5]"], None, "one label at a time"),
        (["task.label=value>=4", "rankers.dim=0"], None, "where: --set rankers.dim=0"),
        (["task.label=value>=4", "task.negatives.judged=3"], None, "ratio is 0"),
    ],
)
def test_what_is_wrong_is_told(
    settings: list[str], names: list[str] | None, message: str, shards: ShardFolder
) -> None:
    with pytest.raises(UserError, match=message):
        evaluate_rankers(shards, names=names, settings=settings)


def test_a_label_that_never_holds(shards: ShardFolder) -> None:
    report = evaluate_rankers(shards, names=["bias"], settings=["task.label=value>9"])["baselines"]["bias"]
    assert "auc" not in report
    assert report["log_loss"] < 0.01


def test_rankers_beside_a_model(shards: ShardFolder) -> None:
    """On its rows; of several labels the means, and each."""
    labels = [parse_labels(text, ["rate"])[0] for text in (LIKE, "value>=5")]
    config = EvaluationConfig(bootstrap=0)
    data = RankerData.of(shards, labels[0])
    rows = labelled_rows(data.sequences, labels, "test")
    model = ActionEvaluation(rows, np.zeros((len(rows), 2), np.float32), "test", config, shards)
    told: list[str] = []
    found, left_out = rankers_beside(model, ["bias"], "train", told.append)
    assert told == [f"bias, {LIKE}", "bias, value>=5"]
    alone = [
        evaluate_rankers(
            shards, names=["bias"], settings=[f"task.label={each.name}", "evaluation.bootstrap=0"]
        )
        for each in labels
    ]
    aucs = [one["baselines"]["bias"]["auc"] for one in alone]
    assert [part["auc"] for part in found["bias"]["labels"].values()] == aucs
    assert found["bias"]["auc"] == pytest.approx(sum(aucs) / 2)
    assert found["bias"]["label"] == [LIKE, "value>=5"]
    assert left_out == {}
    one = ActionEvaluation(data.rows("test"), np.zeros((len(rows), 1), np.float32), "test", config, shards)
    [report] = rankers_beside(one, ["bias"], "train")[0].values()
    assert report == alone[0]["baselines"]["bias"]
