"""Gradient-boosted trees (Ke et al., 2017) on counts of the events before a row."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from behavior.runtime.cores import thread_count
from models.evaluation.actions.rows import LabelledRows
from models.rankers.config import RankersConfig
from models.rankers.counts import count_features, count_names
from models.rankers.data import Fitting, Float64Array
from models.rankers.floors import Fitted

_DEFAULT = 200
"""Trees where nothing chooses their number."""


def fit_trees(fitting: Fitting, config: RankersConfig) -> Fitted:
    """Trees of lightgbm; their number is that of the lowest loss on validation."""
    import lightgbm

    data, is_binary = fitting.data, fitting.data.label.is_binary

    def features(rows: LabelledRows) -> Any:
        return count_features(data, rows, fitting.part)

    names = count_names(data)
    train = lightgbm.Dataset(features(fitting.train), fitting.train.label[:, 0], feature_name=names)
    valid = []
    if fitting.valid is not None:
        valid = [train.create_valid(features(fitting.valid), fitting.valid.label[:, 0])]
    settings = {
        "objective": "binary" if is_binary else "regression",
        "learning_rate": 0.05,
        "num_leaves": config.leaves,
        "min_data_in_leaf": 100 if len(fitting.train) > 10_000 else 5,
        "seed": config.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": thread_count(os.environ),
        "verbosity": -1,
    }
    count = int(fitting.chosen.get("trees", config.trees if valid else _DEFAULT))
    stop = [lightgbm.early_stopping(50, verbose=False)] if valid else []
    booster = lightgbm.train(settings, train, count, valid_sets=valid, callbacks=stop)
    trees = booster.best_iteration if valid else count

    def score(rows: LabelledRows) -> Float64Array:
        if not len(rows):
            return np.zeros(0)
        found = booster.predict(features(rows), num_iteration=trees, raw_score=True)
        return np.asarray(found, np.float64)

    return Fitted(score, {"trees": int(trees)}, is_logit=True)
