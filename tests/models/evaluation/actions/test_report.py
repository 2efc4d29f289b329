"""Reports, pictures and files of predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from behavior.errors import UsageError, UserError
from behavior.shards.folder import ShardFolder, open_shards
from models.data.loading import ShardSource
from models.evaluation.actions.figures import draw_figures
from models.evaluation.actions.labels import parse_labels
from models.evaluation.actions.meter import Meter
from models.evaluation.actions.predictions import check_predictions_path, write_predictions
from models.evaluation.actions.report import ActionEvaluation
from models.evaluation.actions.rows import label_columns, rows_of
from models.evaluation.config import EvaluationConfig
from models.evaluation.rankings_table import check_rankings_path
from tests.models.shards import User, World, write_shards

TEMPORAL = {"kind": "temporal", "targets": "all", "valid_at": 25, "test_at": 40}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardFolder:
    """Users with 0 to 24 training events and 4 test events each, of two behaviors."""
    generator = np.random.default_rng(0)
    users = []
    for number in range(30):
        trained = number if number < 25 else 0
        item = generator.integers(1, 8, trained + 4)
        users.append(
            User(
                item.tolist(),
                trained,
                trained,
                generator.integers(1, 3, trained + 4).tolist(),
                range(trained + 4),
            )
        )
    world = World(num_items=6, behaviors=("view", "buy"), targets=("buy",), split=TEMPORAL)
    return open_shards(write_shards(tmp_path_factory.mktemp("data"), users, world))


def evaluation(shards: ShardFolder, label: Any = "buy", **about: Any) -> ActionEvaluation:
    labels = parse_labels(label, shards.manifest.behaviors)
    rows = rows_of(ShardSource(shards, columns=label_columns(shards, labels)), labels, "test")
    predicted = np.random.default_rng(1).normal(size=rows.label.shape).astype(np.float32)
    return ActionEvaluation(rows, predicted, "test", EvaluationConfig(bootstrap=20), shards, about)


def test_report_of_one_label(shards: ShardFolder) -> None:
    judged = evaluation(shards, model="chance")
    report, rows = judged.report(), judged.rows
    meter = Meter(rows.labels[0])
    meter.add(rows.sequence, judged.predicted[:, 0], rows.label[:, 0])
    assert {name: report[name] for name in meter.metrics()} == meter.metrics()
    expected = {"split": "test", "users": 30, "rows": 120, "label": "buy", "model": "chance"}
    assert {name: report[name] for name in expected} == expected
    assert report["split_kind"] == "temporal"
    assert set(report["intervals"]) == {"auc", "gauc", "log_loss", "normalized_entropy", "calibration"}
    low, high = report["intervals"]["auc"]
    assert low < report["auc"] < high
    assert sum(bucket["rows"] for bucket in report["calibration_table"]) == 120


def test_slices_are_the_metrics_of_their_rows(shards: ShardFolder) -> None:
    judged = evaluation(shards)
    breakdown, rows = judged.report()["breakdown"], judged.rows
    assert {name: part["rows"] for name, part in breakdown["activity"].items()} == {
        "0": 4 * 6,
        "1-9": 4 * 9,
        "10-49": 4 * 15,
    }
    own = rows.train_count >= 10
    meter = Meter(rows.labels[0])
    meter.add(rows.sequence[own], judged.predicted[own, 0], rows.label[own, 0])
    assert breakdown["activity"]["10-49"] == meter.metrics()
    counts = shards.items()["train_count"].to_numpy()
    unknown = (rows.item < 2).sum()
    untrained = sum(1 for item in rows.item.tolist() if item >= 2 and counts[item - 2] == 0)
    assert breakdown["popularity"]["unknown"]["rows"] == unknown > 0
    assert breakdown["popularity"].get("untrained", {"rows": 0})["rows"] == untrained
    assert sum(part["rows"] for part in breakdown["popularity"].values()) == 120


def test_several_labels(shards: ShardFolder) -> None:
    judged = evaluation(shards, ["buy", "view"])
    report = judged.report()
    assert list(report["labels"]) == report["label"] == ["buy", "view"]
    aucs = [part["auc"] for part in report["labels"].values()]
    assert report["auc"] == pytest.approx(sum(aucs) / 2)
    alone = evaluation(shards, "buy")
    one = ActionEvaluation(alone.rows, judged.predicted[:, :1], "test", judged.config, shards).report()
    assert report["labels"]["buy"]["intervals"] == one["intervals"]


def test_nothing_to_report(shards: ShardFolder) -> None:
    judged = evaluation(shards)
    none = ActionEvaluation(
        judged.rows.take(slice(0, 0)), judged.predicted[:0], "test", judged.config, shards
    )
    with pytest.raises(UserError, match="no rows with a label"):
        none.report()


def test_figures(shards: ShardFolder, tmp_path: Path) -> None:
    drawn = draw_figures({"chance": evaluation(shards), "two": evaluation(shards, ["buy", "view"])}, tmp_path)
    assert [path.name for path in drawn] == ["roc.png", "calibration.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000 for path in drawn)


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.tsv"])
def test_predictions(name: str, shards: ShardFolder, tmp_path: Path) -> None:
    judged = evaluation(shards)
    write_predictions({"chance": judged}, tmp_path / name)
    if name.endswith("parquet"):
        table = pq.read_table(tmp_path / name)
    else:
        delimiter = "," if name.endswith("csv") else "\t"
        table = pc.read_csv(tmp_path / name, parse_options=pc.ParseOptions(delimiter=delimiter))
    assert table.column_names == ["user", "item", "timestamp", "label", "probability"]
    ids = shards.items()["id"].to_pylist()
    items = [ids[item - 2] if item >= 2 else None for item in judged.rows.item.tolist()]
    assert [str(each) for each in table["item"].to_pylist()] == [str(each) for each in items]
    assert table["label"].to_pylist() == judged.rows.label[:, 0].tolist()
    expected = 1 / (1 + np.exp(-judged.predicted[:, 0].astype(np.float64)))
    np.testing.assert_allclose(table["probability"].to_numpy(), expected, rtol=1e-6)
    assert table["timestamp"].to_pylist() == judged.rows.timestamp.tolist()


def test_predictions_of_several_models_and_labels(shards: ShardFolder, tmp_path: Path) -> None:
    judged = evaluation(shards, ["buy", "view"])
    write_predictions({"one": judged, "two": judged}, tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names == ["model", "user", "item", "timestamp", "action", "label", "probability"]
    assert table.num_rows == 2 * 2 * 120
    assert pa.compute.unique(table["action"]).to_pylist() == ["buy", "view"]


def test_names_of_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'\.txt'"):
        check_predictions_path(tmp_path / "a.txt")
    with pytest.raises(UserError, match="no folder"):
        check_predictions_path(tmp_path / "b" / "a.csv")


def test_a_data_set_is_not_written_over(shards: ShardFolder, tmp_path: Path) -> None:
    for check in (check_predictions_path, check_rankings_path):
        with pytest.raises(UserError, match="is something else"):
            check(shards.folder.path / "items.parquet")
    write_predictions({"chance": evaluation(shards, ["buy"])}, tmp_path / "a.csv")
    check_predictions_path(tmp_path / "a.csv")
    with pytest.raises(UserError, match="is something else"):
        check_rankings_path(tmp_path / "a.csv")
