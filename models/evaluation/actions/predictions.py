"""The prediction of every row as a table, for anyone's own statistics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from models.evaluation.actions.losses import probabilities
from models.evaluation.actions.report import ActionEvaluation
from models.evaluation.rankings_table import users_of_rows
from models.evaluation.table_file import check_table_path, write_table_file

FLAG = "--predictions"


def check_predictions_path(path: Path) -> None:
    """Say what is wrong with the name of a file for predictions; see `check_table_path`."""
    check_table_path(path, "predictions", ("user", "item", "timestamp", "label"), FLAG)


def write_predictions(evaluations: dict[str, ActionEvaluation], path: Path) -> None:
    """Write the prediction of every row, whole or not at all: CSV (.csv), tab-separated (.tsv) or Parquet.

    Columns: `model`, where there are several; `user` (as in the log; with `user_domain`, where user ids are
    separate), `item` (as in the log; null for an unknown item), `timestamp` (seconds), `action` (name of the
    label), where there are several; `label`, and `probability`, of a label that is a number `prediction`
    instead. One row a label of a row that has it.

    Args:
        evaluations: what predicted -> its evaluation, of the same labels.
        path: the file.

    Raises:
        UserError: the file cannot be written.
    """
    tables = [
        _table(one, number, name if len(evaluations) > 1 else None)
        for name, one in evaluations.items()
        for number in range(len(one.rows.labels))
    ]
    write_table_file(pa.concat_tables(tables, promote_options="default"), path, FLAG)


def _table(evaluation: ActionEvaluation, number: int, model: str | None) -> pa.Table:
    known = ~np.isnan(evaluation.rows.label[:, number])
    rows, predicted = evaluation.rows.take(known), evaluation.predicted[known, number]
    label = rows.labels[number]
    ids = evaluation.shards.items()["id"]
    place = rows.item.astype(np.int64) - evaluation.shards.first_item
    columns = {
        **({} if model is None else {"model": pa.array([model] * len(rows))}),
        **users_of_rows(rows.sequence, evaluation.shards),
        "item": ids.take(pa.array(place, mask=place < 0)),
        "timestamp": pa.array(rows.timestamp),
        **({"action": pa.array([label.name] * len(rows))} if len(rows.labels) > 1 else {}),
        "label": pa.array(rows.label[:, number]),
    }
    if label.is_binary:
        columns["probability"] = pa.array(probabilities(predicted).astype(np.float32))
    else:
        columns["prediction"] = pa.array(predicted)
    return pa.table(columns)
