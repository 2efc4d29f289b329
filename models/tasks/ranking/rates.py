"""What everybody did with items, counted in the training part by time: the tables of `task.rates`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.data.catalog import ItemCatalog
from models.data.loading import ShardSource
from models.data.rated import RateTable
from models.data.tables_only import TablesOnly
from models.evaluation.actions.labels import Label
from models.evaluation.actions.rows import label_columns
from models.tasks.config import TaskSettings
from models.tasks.parts import trained_part
from models.tasks.ranking.counters import values_of, weights_of


def rate_tables(
    settings: TaskSettings, shards: ShardFolder, labels: Sequence[Label], catalog: ItemCatalog
) -> dict[str, RateTable]:
    """By each name of `task.rates`: events, and those with each action; none where there are no names.

    Goes through all sequences, and counts the events that a training sees.

    Raises:
        UserError: the sequences of the data set are not at hand; there is no such feature, or it is a number.
    """
    names = settings.task.rates
    if not names:
        return {}
    if isinstance(shards, TablesOnly):
        raise UserError(
            "rates are counted in the log whenever the model is loaded, and the data set is gone: "
            + shards.missing.what,
            where=shards.missing.where,
            fix="say where its shards are now: --data DIR; or train with task.rates=[], so that the run "
            "alone will do",
        )
    weights = [weights_of(label) for label in labels if label.is_binary]
    every = [values_of(name, catalog, "task.rates") for name in names]
    items, times = [], []
    counted: list[list[np.ndarray]] = [[] for _ in weights]
    columns = label_columns(shards, labels)
    for data in trained_part(ShardSource(shards, columns=columns, cache_bytes=0), settings):
        chosen = data.in_training()
        items.append(data.item[chosen].astype(np.int64))
        times.append(data.timestamp[chosen])
        for found, weight in zip(counted, weights, strict=True):
            found.append(weight(data.events)[chosen])
    item, time = np.concatenate(items), np.concatenate(times)
    ones = np.ones(len(item), np.float32)
    hits = [ones, *(np.concatenate(found) for found in counted)]
    return {name: RateTable.of(values, item, time, hits) for name, values in zip(names, every, strict=True)}
